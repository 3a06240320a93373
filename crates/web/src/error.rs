use std::borrow::Cow;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::html;
use runtrail_audit::Error;
use serde_json::json;

use crate::format;
use crate::layout::{self, Section};

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a request can't be answered.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    message: Cow<'static, str>,
}

/// What a route responds with, which decides how its failures look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole HTML document.
    Page,
    /// A part of a document, which a script inserts.
    Fragment,
    Json,
    /// Server-sent events.
    Stream,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// The request has a parameter that can't be used.
    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn no_run(run_id: &str) -> Self {
        Self::not_found(format!("There is no run with the id {run_id}."))
    }

    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "You have no access to this history.")
    }

    pub(crate) fn response(&self, kind: Kind, root: &str) -> Response {
        let message = format::line(&self.message);
        let mut response = match kind {
            Kind::Page => {
                let title = self.title();
                let body = html! {
                    section.failure {
                        h1 { (title) }
                        p { (message) }
                        p {
                            @if self.is_temporary() {
                                // The same page.
                                a.button href="" { "Try again" }
                                " "
                            }
                            a href=(root) { "Show all runs" }
                        }
                    }
                };
                layout::page(root, title, Section::None, body)
            }
            Kind::Fragment => layout::fragment(html! {
                p.failure role="alert" { (self.title()) ": " (message) }
            }),
            Kind::Json => layout::json(&json!({
                "error": { "status": self.status.as_u16(), "message": self.message }
            })),
            Kind::Stream => format!("{message}\n").into_response(),
        };
        *response.status_mut() = self.status;
        if self.is_temporary() {
            let seconds = HeaderValue::from_static("2");
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }

    fn is_temporary(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    fn title(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST => "This request can’t be answered",
            StatusCode::FORBIDDEN => "No access",
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::SERVICE_UNAVAILABLE => "The history is not available",
            _ => "Something went wrong",
        }
    }
}

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        match &err {
            Error::NotFound { run_id } => Self::no_run(run_id),
            Error::InvalidInput { .. } => Self::bad_request(sentence(&err)),
            Error::Corrupt { .. } => {
                tracing::warn!(%err, "could not show a damaged row");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, sentence(&err))
            }
            // The reason may name hosts and files, which are not for every visitor.
            _ => {
                tracing::warn!(%err, "could not read the history");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "The database did not answer. The log of the server has the reason.",
                )
            }
        }
    }
}

fn sentence(err: &Error) -> String {
    let message = err.to_string();
    let mut characters = message.chars();
    let first: String = characters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    format!("{first}{}.", characters.as_str())
}
