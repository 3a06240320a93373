use std::sync::Arc;

use axum::Router;
use runtrail_audit::History;
use runtrail_web::{FullAccess, WebOptions, router};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::sample;
use super::session::{Browser, Findings};

/// A host that mounts the page, on a free port. Dropping it aborts its task.
pub(super) struct Host {
    /// The URL of the server, without a path.
    pub(super) origin: String,
    /// The URL of the page, with a slash at the end.
    pub(super) page: String,
    task: JoinHandle<()>,
}

impl Host {
    /// Serves the page at the root.
    pub(super) async fn at_root(history: Arc<dyn History>) -> Self {
        Self::at(history, "").await
    }

    /// Serves the page below a prefix.
    pub(super) async fn at(history: Arc<dyn History>, prefix: &str) -> Self {
        let options = WebOptions::new(FullAccess).clock(Arc::new(sample::clock()));
        Self::with(history, options, prefix).await
    }

    pub(super) async fn with(history: Arc<dyn History>, options: WebOptions, prefix: &str) -> Self {
        let page = router(history, options);
        let routes = match prefix {
            "" => page,
            prefix => Router::new().nest_service(prefix, page),
        };
        Self::of(routes, prefix).await
    }

    /// Serves these routes.
    pub(super) async fn of(routes: Router, prefix: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            page: format!("{origin}{prefix}/"),
            origin,
            task,
        }
    }

    /// Opens a page by its path below the prefix.
    pub(super) async fn open(&self, browser: &Browser, path: &str) {
        browser.open(&format!("{}{path}", self.page)).await;
    }

    /// Expects that nothing was wrong with the pages since the last call.
    pub(super) async fn is_clean(&self, browser: &Browser) {
        let findings = browser.findings(&self.origin).await;
        let url = browser.url().await;
        assert_eq!(findings, Findings::default(), "{url}");
    }

    /// Expects that the last page had this status, and that nothing else was wrong with it.
    pub(super) async fn has_status(&self, browser: &Browser, status: u16) {
        let mut findings = browser.findings(&self.origin).await;
        let answered = format!("the server responded with a status of {status} ");
        let answers = findings
            .errors
            .extract_if(.., |error| error.contains(&answered));
        assert_eq!(answers.count(), 1);
        assert_eq!(findings, Findings::default());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}
