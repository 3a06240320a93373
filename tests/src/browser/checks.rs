use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::Html;
use axum::routing::{MethodRouter, get};
use serde_json::json;

use super::host::Host;
use super::session::{Browser, browse};
use crate::fixture::*;

/// Expects that the page can be read by everyone: it has landmarks, names and contrast, and fits
/// into the width of the window.
pub(super) async fn is_accessible(browser: &Browser) {
    let problems = browser.run(include_str!("checks.js")).await;
    assert_eq!(problems, json!([]), "{}", browser.url().await);
}

#[test]
fn a_bad_page_does_not_pass() {
    const PAGE: &str = "<!doctype html><title>Bad</title><p id=a>text<p id=a>
        <input><a href=/></a><img src=http://example.invalid/x.png>
        <span id=pale>pale</span><div id=wide>wide</div><table><th>x</table>
        <link rel=stylesheet href=/style.css>
        <script>document.title = 'ran'</script><script src=/script.js></script>";
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'";
    const STYLE: &str = "#pale { color: #999 } #wide { width: 9000px }";

    runtime().block_on(async {
        let page = get(async || ([(CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE)));
        let routes = Router::new()
            .route("/", page)
            .route("/style.css", file("text/css", STYLE))
            .route(
                "/script.js",
                file("text/javascript", "throw new Error('broken')"),
            )
            .route("/favicon.ico", file("image/x-icon", ""));
        let host = Host::of(routes, "").await;
        browse(async |browser| {
            host.open(browser, "").await;
            let problems = browser.run(include_str!("checks.js")).await.to_string();
            for expected in [
                "no language",
                "0 of main headings",
                "0 of main landmarks",
                "no link that skips to the content",
                "an id that is used twice",
                "a field without a label",
                "a control without a name",
                "a picture without a text",
                "a contrast of 2.85",
                "a table without a caption",
                "a heading without a scope",
                "wide in a window of",
            ] {
                assert!(problems.contains(expected), "{expected}: {problems}");
            }

            let findings = browser.findings(&host.origin).await;
            assert_eq!(findings.foreign, ["http://example.invalid/x.png"]);
            let errors = findings.errors.join("\n");
            for expected in ["inline script violates", "img-src", "Error: broken"] {
                assert!(errors.contains(expected), "{expected}: {errors}");
            }
            let none = browser.findings(&host.origin).await;
            assert!(none.errors.is_empty() && none.foreign.is_empty());
        })
        .await;
    });
}

fn file(content_type: &'static str, text: &'static str) -> MethodRouter {
    get(async move || ([(CONTENT_TYPE, content_type)], text))
}
