//! Starts the application, and visits it over HTTP as its users would.

use std::env;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::header::{CONTENT_SECURITY_POLICY, COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn check(url: &str) -> Result<()> {
    let (mut process, visitor) = start(url).await?;
    check_the_page_needs_a_login(&visitor).await?;

    let alice = visitor.log_in("alice", "low tide").await?;
    let bob = visitor.log_in("bob", "high tide").await?;
    let operator = visitor.log_in("operator", "lighthouse").await?;
    for question in ["When is high water in Husum?", "And in Rome?", ""] {
        alice.ask(question).await?;
    }
    bob.ask("How high is the water in Husum?").await?;

    let runs = operator.finished_runs(4).await?;
    let of_bob = runs.iter().find(|run| run["caller_id"] == "bob");
    let of_bob = of_bob.context("Bob's run is missing")?;
    check_jobs_are_recorded(&alice).await?;
    check_others_runs_are_hidden(&alice, of_bob).await?;
    check_the_page(&bob, of_bob).await?;

    let live = bob.get("/history/live").await?;
    ensure!(live.status() == StatusCode::OK, "{live:?}");
    bob.ask("And tomorrow in Husum?").await?;
    let runs = bob.finished_runs(2).await?;
    let latest = runs.iter().find(|run| run["id"] != of_bob["id"]);
    let latest = latest.context("Bob's new run is missing")?;
    let live = check_run_arrives(live, id(latest)?).await?;
    stop(&mut process).await.context("with a live page open")?;
    drop(live);
    Ok(())
}

async fn check_the_page_needs_a_login(visitor: &Visitor) -> Result<()> {
    for path in ["/history/", "/history/api/v1/runs", "/history/live"] {
        let response = visitor.get(path).await?;
        ensure!(response.status() == StatusCode::SEE_OTHER, "{response:?}");
        ensure!(response.headers()[LOCATION] == "/login", "{response:?}");
    }
    let refused = visitor.send_login("alice", "high tide").await?;
    ensure!(refused.status() == StatusCode::UNAUTHORIZED, "{refused:?}");
    let refused = visitor.send_question("Who am I?").await?;
    ensure!(refused.status() == StatusCode::UNAUTHORIZED, "{refused:?}");
    Ok(())
}

/// One job succeeded, one failed and one panicked.
async fn check_jobs_are_recorded(alice: &Visitor) -> Result<()> {
    let runs = alice.finished_runs(3).await?;
    let answer = |question: &str| {
        let is_answer = |run: &&Value| run["inputs"]["question"] == question;
        runs.iter().find(is_answer).context(question.to_owned())
    };
    let answered = answer("When is high water in Husum?")?;
    ensure!(answered["status"] == "ok", "{answered}");
    ensure!(
        answered["output"] == "High water is at 3.8 m.",
        "{answered}"
    );
    ensure!(answered["tool_calls"] == 1, "{answered}");
    let unknown = answer("And in Rome?")?;
    ensure!(unknown["status"] == "error", "{unknown}");
    ensure!(
        unknown["error"] == "there is no tide table for this station",
        "{unknown}"
    );
    let panicked = answer("")?;
    ensure!(panicked["status"] == "error", "{panicked}");
    ensure!(panicked["error"] == "dropped during a panic", "{panicked}");

    let path = format!("/history/api/v1/runs/{}/events", id(answered)?);
    let events = alice.json(&path).await?;
    ensure!(events["events"][0]["event_type"] == "tool_call", "{events}");
    ensure!(
        events["events"][0]["payload"]["tool"] == "tide_table",
        "{events}"
    );
    Ok(())
}

async fn check_others_runs_are_hidden(alice: &Visitor, of_bob: &Value) -> Result<()> {
    for path in ["/history/runs/", "/history/api/v1/runs/"] {
        let response = alice.get(&format!("{path}{}", id(of_bob)?)).await?;
        ensure!(response.status() == StatusCode::NOT_FOUND, "{response:?}");
    }
    let runs = alice.json("/history/api/v1/runs?caller=bob").await?;
    ensure!(runs["runs"] == Value::Array(Vec::new()), "{runs}");
    Ok(())
}

async fn check_the_page(bob: &Visitor, run: &Value) -> Result<()> {
    let response = bob.get("/history").await?;
    ensure!(
        response.status() == StatusCode::PERMANENT_REDIRECT,
        "{response:?}"
    );
    for (path, text) in [
        ("/history/".to_owned(), "answer"),
        (
            format!("/history/runs/{}", id(run)?),
            "How high is the water in Husum?",
        ),
    ] {
        let response = bob.get(&path).await?;
        ensure!(response.status() == StatusCode::OK, "{response:?}");
        ensure!(
            response.headers().contains_key(CONTENT_SECURITY_POLICY),
            "{response:?}"
        );
        let page = response.text().await?;
        ensure!(page.contains(text), "{page}");
    }
    Ok(())
}

/// Reads the stream until this run is in it.
async fn check_run_arrives(mut live: Response, run_id: &str) -> Result<Response> {
    let mut received = String::new();
    let read = async {
        while !received.contains(run_id) {
            let chunk = live.chunk().await?.context("the stream has ended")?;
            received.push_str(&String::from_utf8_lossy(&chunk));
        }
        anyhow::Ok(())
    };
    let arrived = timeout(PATIENCE, read).await;
    arrived.with_context(|| format!("{run_id} isn't in {received}"))??;
    Ok(live)
}

fn id(run: &Value) -> Result<&str> {
    run["id"]
        .as_str()
        .with_context(|| format!("no id in {run}"))
}

/// Starts the application on a free port, and waits until it answers.
async fn start(url: &str) -> Result<(Child, Visitor)> {
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let process = Command::new(env::current_exe()?)
        .args(["serve", &free.to_string()])
        .env("DATABASE_URL", url)
        .kill_on_drop(true)
        .spawn()?;
    let visitor = Visitor {
        client: Client::builder().redirect(Policy::none()).build()?,
        root: format!("http://127.0.0.1:{free}"),
        cookie: String::new(),
    };
    let answers = async {
        while visitor.get("/login").await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let started = timeout(PATIENCE, answers).await;
    started.context("the application doesn't answer")?;
    Ok((process, visitor))
}

async fn stop(process: &mut Child) -> Result<()> {
    let id = process.id().context("the application has ended")?;
    let signal = Command::new("kill").arg(id.to_string()).status().await?;
    ensure!(signal.success(), "could not send a signal");
    let status = timeout(PATIENCE, process.wait()).await;
    let status = status.context("the application doesn't stop")??;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[derive(Clone)]
struct Visitor {
    client: Client,
    root: String,
    cookie: String,
}

impl Visitor {
    async fn get(&self, path: &str) -> Result<Response> {
        let request = self.client.get(format!("{}{path}", self.root));
        Ok(request.header(COOKIE, &self.cookie).send().await?)
    }

    async fn json(&self, path: &str) -> Result<Value> {
        Ok(self.get(path).await?.error_for_status()?.json().await?)
    }

    async fn send_login(&self, user: &str, password: &str) -> Result<Response> {
        let request = self.client.post(format!("{}/login", self.root));
        let credentials = [("user", user), ("password", password)];
        Ok(request.form(&credentials).send().await?)
    }

    async fn log_in(&self, user: &str, password: &str) -> Result<Self> {
        let response = self.send_login(user, password).await?;
        ensure!(response.status() == StatusCode::SEE_OTHER, "{response:?}");
        let cookie = response.headers()[SET_COOKIE].to_str()?;
        let (cookie, _) = cookie
            .split_once(';')
            .context("a cookie without attributes")?;
        let cookie = cookie.to_owned();
        Ok(Self {
            cookie,
            ..self.clone()
        })
    }

    async fn send_question(&self, text: &str) -> Result<Response> {
        let request = self.client.post(format!("{}/questions", self.root));
        Ok(request
            .header(COOKIE, &self.cookie)
            .json(text)
            .send()
            .await?)
    }

    async fn ask(&self, text: &str) -> Result<()> {
        let response = self.send_question(text).await?;
        ensure!(response.status() == StatusCode::ACCEPTED, "{response:?}");
        Ok(())
    }

    /// Waits until this visitor sees so many runs and all have ended, and returns each as a whole.
    async fn finished_runs(&self, count: usize) -> Result<Vec<Value>> {
        let ended = async {
            loop {
                let listed = self.json("/history/api/v1/runs").await?;
                let runs = listed["runs"].as_array().context("no list of runs")?;
                ensure!(runs.len() <= count, "{listed}");
                if runs.len() == count && runs.iter().all(|run| run["status"] != "running") {
                    return Ok(runs.clone());
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let listed = timeout(PATIENCE, ended)
            .await
            .context("the jobs don't end")??;
        let mut runs = Vec::new();
        for run in &listed {
            runs.push(
                self.json(&format!("/history/api/v1/runs/{}", id(run)?))
                    .await?,
            );
        }
        Ok(runs)
    }
}
