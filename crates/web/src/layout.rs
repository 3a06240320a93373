//! What all pages have in common.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde::Serialize;

use crate::{assets, format, keys};

/// An entry of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Runs,
    Statistics,
    None,
}

/// Returns a whole document. `root` is the relative path to the list of runs.
pub(crate) fn page(root: &str, title: &str, section: Section, body: Markup) -> Response {
    let current = |entry| (section == entry).then_some("page");
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (format::line(title)) " · Runtrail" }
                link rel="icon" href={ (root) (assets::ICON.link()) };
                link rel="stylesheet" href={ (root) (assets::STYLESHEET.link()) };
                script type="module" src={ (root) (assets::SCRIPT.link()) } {}
            }
            body data-root=(root) {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href=(root) {
                        img src={ (root) (assets::ICON.link()) } alt="" width="20" height="20";
                        "Runtrail"
                    }
                    nav aria-label="Pages" {
                        a href=(root) aria-current=[current(Section::Runs)] { "Runs" }
                        a href={ (root) "statistics" } aria-current=[current(Section::Statistics)] {
                            "Statistics"
                        }
                    }
                }
                main #main tabindex="-1" { (body) }
                (keys::dialog())
            }
        }
    };
    Html(document.into_string()).into_response()
}

/// Returns a part of a document, which a script inserts.
pub(crate) fn fragment(body: Markup) -> Response {
    Html(body.into_string()).into_response()
}

pub(crate) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => {
            let media_type = HeaderValue::from_static("application/json");
            ([(CONTENT_TYPE, media_type)], text).into_response()
        }
        Err(err) => {
            tracing::error!(%err, "could not write JSON");
            axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
