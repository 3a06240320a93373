use std::sync::Arc;
use std::time::{Duration, Instant};

use runtrail_audit::{Page, RunFilter, SkillRun, SkillRunLog, Staging, Storage};
use runtrail_otlp::{Receiver, ReceiverOptions, RouterOptions, router};
use runtrail_store::AuditStore;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::exporter::{self, Answer, Log, Span};
use crate::fixture::*;

pub(super) const LONG: Duration = Duration::from_secs(60);

/// A receiver that listens on a free port. Dropping it aborts its tasks.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) receiver: Receiver,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(store: &AuditStore) -> Self {
        Self::with(store, ReceiverOptions::new()).await
    }

    pub(super) async fn with(store: &AuditStore, options: ReceiverOptions) -> Self {
        let receiver = Receiver::new(Arc::new(store.clone()), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = router(Arc::new(receiver.clone()), RouterOptions::default());
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            url,
            receiver,
            task,
        }
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        let url = format!("{}{path}", self.url);
        exporter::post(&url, body).await.unwrap()
    }

    /// Sends spans, and expects them to be acknowledged.
    pub(super) async fn send(&self, trace: u128, spans: &[Span]) {
        let answer = self
            .post("/v1/traces", &exporter::traces(trace, spans))
            .await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    }

    /// Sends logs of a prompt of Claude Code, and expects them to be acknowledged.
    pub(super) async fn send_logs(&self, prompt: &str, logs: &[Log]) {
        let answer = self.post("/v1/logs", &exporter::logs(prompt, logs)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    }

    /// Stores what belongs to known runs.
    pub(super) async fn flush(&self) {
        self.receiver.flush(LONG).await.unwrap();
    }

    /// Sends spans and stores them.
    pub(super) async fn record(&self, trace: u128, spans: &[Span]) {
        self.send(trace, spans).await;
        self.flush().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Everything that is stored: the runs, oldest first, each with its events.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored(pub(super) Vec<(SkillRun, Vec<SkillRunLog>)>);

impl Stored {
    pub(super) async fn read(store: &AuditStore) -> Self {
        let mut runs = store
            .list_runs_filtered(&RunFilter::new(), Page::ALL)
            .await
            .unwrap();
        runs.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        let mut all = Vec::new();
        for run in runs {
            let events = store.list_logs_by_run(&run.id).await.unwrap();
            all.push((run, events));
        }
        Self(all)
    }

    /// Reads until a condition is met, for at most [`PATIENCE`].
    pub(super) async fn once(store: &AuditStore, is_met: impl Fn(&Self) -> bool) -> Self {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let stored = Self::read(store).await;
            if is_met(&stored) {
                return stored;
            }
            assert!(Instant::now() < give_up, "{stored:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[track_caller]
    pub(super) fn run(&self, id: &str) -> &SkillRun {
        let mut runs = self.0.iter();
        match runs.find(|(run, _)| run.id == id) {
            Some((run, _)) => run,
            None => panic!("{id} is not stored: {self:#?}"),
        }
    }

    /// Whether there are this many runs, and all of them have ended.
    pub(super) fn is_over(&self, runs: usize) -> bool {
        self.0.len() == runs && self.0.iter().all(|(run, _)| !run.is_running())
    }

    pub(super) fn events(&self, id: &str) -> &[SkillRunLog] {
        let mut runs = self.0.iter();
        runs.find(|(run, _)| run.id == id)
            .map_or(&[], |(_, events)| events)
    }

    /// The skills of all runs, sorted.
    pub(super) fn skills(&self) -> Vec<&str> {
        let mut skills: Vec<_> = self
            .0
            .iter()
            .map(|(run, _)| run.skill_id.as_str())
            .collect();
        skills.sort_unstable();
        skills
    }
}

pub(super) fn types(events: &[SkillRunLog]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.event_type.as_str())
        .collect()
}

/// The number of groups with records that aren't stored as runs or events yet.
pub(super) async fn waiting(store: &AuditStore) -> usize {
    store.waiting_groups("", 1_000).await.unwrap().len()
}

/// Waits until everything that was acknowledged is stored as runs and events, for at most
/// [`PATIENCE`].
pub(super) async fn settled(store: &AuditStore) {
    let give_up = Instant::now() + PATIENCE;
    while waiting(store).await > 0 {
        assert!(Instant::now() < give_up, "records are still waiting");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
