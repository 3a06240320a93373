use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use runtrail_test_servers::{has_sandbox, variables};
use serde_json::{Value, json};
use url::{ParseError, Url};

use crate::fixture::*;

/// Pictures higher than this are cut.
const MAX_HEIGHT: f64 = 2_400.0;

const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/screenshots");

/// Arguments of Chromium. The first ones make it quiet and self-contained.
const ARGUMENTS: [&str; 8] = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Text looks the same on every machine.
    "--font-render-hinting=none",
];

/// The colours that a visitor prefers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scheme {
    Light,
    Dark,
}

/// A browser with one window.
pub(super) struct Browser {
    client: Client,
    width: Cell<u32>,
}

/// Runs a case in a new browser. At the end, also after a panic, the browser is closed. A failure
/// leaves a picture.
pub(super) async fn browse(case: impl AsyncFnOnce(&Browser)) {
    let browser = Browser::start().await;
    let outcome = AssertUnwindSafe(case(&browser)).catch_unwind().await;
    if outcome.is_err() {
        let name = thread::current().name().unwrap_or_default().to_owned();
        let picture = format!("failed-{}", name.replace("::", "-"));
        let _ = AssertUnwindSafe(browser.picture(&picture))
            .catch_unwind()
            .await;
    }
    browser.client.close().await.unwrap();
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// What is wrong with the pages that were opened.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Findings {
    /// Errors in the console, including violations of the content security policy.
    pub(super) errors: Vec<String>,
    /// Requests to other hosts.
    pub(super) foreign: Vec<String>,
}

impl Browser {
    async fn start() -> Self {
        let driver = std::env::var(variables::CHROMEDRIVER_URL).unwrap_or_else(|_| {
            panic!(
                "this case needs a browser: run `cargo xtask test browser`, or start ChromeDriver \
                and set {}",
                variables::CHROMEDRIVER_URL
            )
        });
        let mut arguments = ARGUMENTS.to_vec();
        if !has_sandbox() {
            arguments.push("--no-sandbox");
        }
        let capabilities = object(json!({
            "goog:chromeOptions": {
                "args": arguments,
                "perfLoggingPrefs": {"enablePage": false},
            },
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }));
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver)
            .await
            .unwrap();
        let browser = Self {
            client,
            width: Cell::new(0),
        };
        browser.look(1_440, Scheme::Light).await;
        browser
    }

    /// Opens a URL, and waits until it has loaded.
    pub(super) async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub(super) async fn url(&self) -> String {
        self.client.current_url().await.unwrap().into()
    }

    pub(super) async fn click(&self, selector: &str) {
        let begun = Instant::now();
        // A script may replace the element after it is found.
        while let Err(err) = self.try_click(selector).await {
            assert!(begun.elapsed() < PATIENCE, "{selector}: {err}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn try_click(&self, selector: &str) -> Result<(), CmdError> {
        let element = self.client.find(Locator::Css(selector)).await?;
        element.click().await
    }

    /// Presses keys, in the element that has the focus.
    pub(super) async fn press(&self, keys: &str) {
        let begun = Instant::now();
        // An element that a script has replaced since gets no keys.
        while let Err(err) = self.try_press(keys).await {
            assert!(begun.elapsed() < PATIENCE, "{keys:?}: {err}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn try_press(&self, keys: &str) -> Result<(), CmdError> {
        let active = self.client.active_element().await?;
        active.send_keys(keys).await
    }

    pub(super) async fn press_key(&self, key: Key) {
        self.press(&char::from(key).to_string()).await;
    }

    /// Sets the width of the window and the colour scheme. Pages that are open change too.
    pub(super) async fn look(&self, width: u32, scheme: Scheme) {
        let metrics = json!({
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await;
        let scheme = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        let media = json!({"features": [feature]});
        self.devtools("Emulation.setEmulatedMedia", media).await;
        self.width.set(width);
    }

    /// Opens further pages without JavaScript.
    pub(super) async fn disable_scripts(&self) {
        let disabled = json!({"value": true});
        self.devtools("Emulation.setScriptExecutionDisabled", disabled)
            .await;
    }

    /// Runs the body of a function in the page, and returns what it returns.
    pub(super) async fn run(&self, script: &str) -> Value {
        match self.client.execute(script, Vec::new()).await {
            Ok(value) => value,
            Err(err) => panic!("{script}: {err}"),
        }
    }

    /// The text of the page as it is shown.
    pub(super) async fn text(&self) -> String {
        let text = self.run("return document.body.innerText").await;
        text.as_str().unwrap().to_owned()
    }

    pub(super) async fn count(&self, selector: &str) -> u64 {
        let selector = Value::from(selector);
        let script = format!("return document.querySelectorAll({selector}).length");
        self.run(&script).await.as_u64().unwrap()
    }

    /// Waits until an expression is true in the page, for at most [`PATIENCE`]. Returns how long
    /// that took.
    pub(super) async fn wait_for(&self, expression: &str) -> Duration {
        let begun = Instant::now();
        let script = format!("return Boolean({expression})");
        while self.run(&script).await != true {
            assert!(
                begun.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {expression}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }

    /// Writes a picture of the page, with what one would have to scroll to.
    pub(super) async fn picture(&self, name: &str) {
        let picture = self.draw("body", MAX_HEIGHT).await;
        let file = PathBuf::from(PICTURES).join(format!("{name}.png"));
        fs::create_dir_all(PICTURES).unwrap();
        fs::write(file, picture).unwrap();
    }

    /// Returns a picture of the page in the format PNG, from the top of an element to the end of
    /// the page, at most this high.
    pub(super) async fn draw(&self, from: &str, height: f64) -> Vec<u8> {
        let from = Value::from(from);
        let script = format!(
            "const {{top}} = document.querySelector({from}).getBoundingClientRect();
             const page = document.documentElement;
             return [top + scrollY, Math.max(page.scrollHeight, page.clientHeight)]"
        );
        let ends = self.run(&script).await;
        let (top, end) = (ends[0].as_f64().unwrap(), ends[1].as_f64().unwrap());
        let clip = json!({
            "x": 0, "y": top, "width": self.width.get(), "height": height.min(end - top),
            "scale": 1,
        });
        let options = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let answer = self.devtools("Page.captureScreenshot", options).await;
        BASE64.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    /// Returns what was wrong since the last call. Other hosts are those that aren't at `origin`.
    pub(super) async fn findings(&self, origin: &str) -> Findings {
        let mut findings = Findings::default();
        for entry in self.log("browser").await {
            if entry["level"] == "SEVERE" {
                let message = entry["message"].as_str().unwrap();
                findings.errors.push(message.to_owned());
            }
        }
        for entry in self.log("performance").await {
            let message = entry["message"].as_str().unwrap();
            let entry: Value = serde_json::from_str(message).unwrap();
            let message = &entry["message"];
            if message["method"] != "Network.requestWillBeSent" {
                continue;
            }
            let url = message["params"]["request"]["url"].as_str().unwrap();
            // The new window shows `data:,`.
            if !url.starts_with(origin) && !url.starts_with("data:") {
                findings.foreign.push(url.to_owned());
            }
        }
        findings
    }

    async fn log(&self, name: &'static str) -> Vec<Value> {
        let entries = self.command("se/log", json!({"type": name})).await;
        entries.as_array().unwrap().clone()
    }

    async fn devtools(&self, method: &str, parameters: Value) -> Value {
        let command = json!({"cmd": method, "params": parameters});
        self.command("goog/cdp/execute", command).await
    }

    async fn command(&self, path: &'static str, body: Value) -> Value {
        let name = body.to_string();
        let answer = self.client.issue_cmd(DriverCommand { path, body }).await;
        answer.unwrap_or_else(|err| panic!("{path} {name}: {err}"))
    }
}

/// A command of ChromeDriver that isn't in the WebDriver standard.
#[derive(Debug)]
struct DriverCommand {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for DriverCommand {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _url: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
