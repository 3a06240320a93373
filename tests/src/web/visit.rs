use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request};
use runtrail_store::AuditStore;
use runtrail_web::{Access, Grant, WebOptions, router};
use serde_json::Value;
use tower::ServiceExt;

use crate::fixture::*;

/// The page of a history. Its clock stands still.
pub(super) struct Site(Router);

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// Grants every request the same.
struct Always(Grant);

#[async_trait]
impl Access for Always {
    async fn grant(&self, _request: &Parts) -> Grant {
        self.0.clone()
    }
}

impl Site {
    pub(super) fn of(store: &AuditStore) -> Self {
        Self::granting(store, Grant::full())
    }

    pub(super) fn granting(store: &AuditStore, grant: Grant) -> Self {
        let options = WebOptions::new(Always(grant)).clock(Arc::new(ManualClock::default()));
        Self(router(Arc::new(store.clone()), options))
    }

    /// The page as it is this many seconds later.
    pub(super) fn later(store: &AuditStore, seconds: i64) -> Self {
        let clock = ManualClock::default();
        clock.advance(seconds);
        let options = WebOptions::new(Always(Grant::full())).clock(Arc::new(clock));
        Self(router(Arc::new(store.clone()), options))
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).await
    }

    pub(super) async fn request(&self, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::empty()).unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Mounts the page below a prefix of a host.
    pub(super) fn below(self, prefix: &str) -> Self {
        Self(Router::new().nest_service(prefix, self.0))
    }

    /// Requests JSON, and expects success.
    pub(super) async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.shows(path).await).unwrap()
    }

    /// Requests a page, expects success, and returns the document.
    pub(super) async fn shows(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }
}

/// Returns the text of each row of a document's tables, without tags, cells separated by `|`.
pub(super) fn rows(document: &str) -> Vec<String> {
    let rows = document.split("<tr").skip(1);
    let rows = rows.filter_map(|row| row.split_once('>')?.1.split("</tr>").next());
    rows.map(|row| {
        let cells = row.replace("</td>", "|").replace("</th>", "|");
        let mut text = String::new();
        let mut is_tag = false;
        for character in cells.chars() {
            match character {
                '<' => is_tag = true,
                '>' if is_tag => is_tag = false,
                _ if is_tag => {}
                _ => text.push(character),
            }
        }
        text.trim_end_matches('|').to_owned()
    })
    .collect()
}
