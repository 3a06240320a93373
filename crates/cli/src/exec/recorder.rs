use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use runtrail_store::AuditStore;
use runtrail_store::audit::{
    BulkStorage, Clock, Error, Result, RunStats, RunStatus, SkillRunLog, Storage, SystemClock,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::outcome::Outcome;
use crate::failure::Failure;

/// Events that may wait to be stored; each has at most 16 KiB of output.
const WAITING: usize = 256;

/// The type of the event that tells how the program ended.
const EXIT: &str = "exit";

/// How long a database that is away for a while is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stores the events of a run as they come, and its outcome.
pub(super) struct Recorder {
    store: AuditStore,
    run_id: String,
    events: Events,
    storing: JoinHandle<Loss>,
}

/// Where events are handed to the [`Recorder`].
#[derive(Clone)]
pub(super) struct Events {
    run_id: Arc<str>,
    next: Arc<AtomicU64>,
    sender: mpsc::Sender<SkillRunLog>,
}

impl Events {
    /// Blocks while the database is slower than the program.
    pub(super) fn send(&self, event_type: &str, payload: Value) {
        // Fails only if the recorder has panicked, which it says when it is asked for the loss.
        let _ = self.sender.blocking_send(self.next(event_type, payload));
    }

    fn next(&self, event_type: &str, payload: Value) -> SkillRunLog {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        SkillRunLog {
            created_at: Some(SystemClock.now()),
            ..SkillRunLog::new(&*self.run_id, sequence, event_type, payload)
        }
    }
}

impl Recorder {
    /// For a run that has been started.
    pub(super) fn new(store: AuditStore, run_id: String) -> Self {
        let (sender, waiting) = mpsc::channel(WAITING);
        let events = Events {
            run_id: run_id.as_str().into(),
            next: Arc::default(),
            sender,
        };
        let storing = tokio::spawn(store_events(store.clone(), waiting));
        Self {
            store,
            run_id,
            events,
            storing,
        }
    }

    pub(super) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Stores what is waiting, then how the program ended; an error if anything could not be stored.
    pub(super) async fn finish(self, status: RunStatus, outcome: &Outcome) -> Result<(), Loss> {
        let exit = self.events.next(EXIT, outcome.event());
        drop(self.events);
        let mut loss = self.storing.await.unwrap_or_else(|err| Loss {
            reason: Some(err.to_string()),
            ..Loss::default()
        });
        if let Err(err) = patiently(|| self.store.append_log(&exit)).await {
            loss.add(1, err);
        }
        let mut error = outcome.error();
        if loss.is_any() {
            let separator = if error.is_empty() { "" } else { "; " };
            error = format!("{error}{separator}recorded incompletely: {loss}");
        }
        let stats = RunStats {
            error,
            runtime_seconds: outcome.runtime.as_secs_f64(),
            ..RunStats::new(status)
        };
        if let Err(err) = patiently(|| self.store.finish_run(&self.run_id, &stats)).await {
            loss.is_unfinished = true;
            loss.add(0, err);
        }
        if loss.is_any() { Err(loss) } else { Ok(()) }
    }
}

async fn store_events(store: AuditStore, mut waiting: mpsc::Receiver<SkillRunLog>) -> Loss {
    let mut loss = Loss::default();
    let mut events = Vec::with_capacity(WAITING);
    while waiting.recv_many(&mut events, WAITING).await > 0 {
        let stored = if loss.is_any() {
            // The program has been kept waiting long enough.
            store.append_logs(&events).await
        } else {
            patiently(|| store.append_logs(&events)).await
        };
        if let Err(err) = stored {
            loss.add(events.len(), err);
        }
        events.clear();
    }
    loss
}

/// Tries again while the database may come back.
async fn patiently<F: Future<Output = Result<()>>>(write: impl Fn() -> F) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(20);
    loop {
        match write().await {
            Err(err) if err.is_transient() && Instant::now() + pause < give_up => {
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            outcome => return outcome,
        }
    }
}

/// What could not be stored.
#[derive(Debug, Default)]
pub(super) struct Loss {
    events: usize,
    is_unfinished: bool,
    /// Why, at first.
    reason: Option<String>,
}

impl Loss {
    fn add(&mut self, events: usize, err: Error) {
        self.events += events;
        self.reason
            .get_or_insert_with(|| Failure::from(err).in_one_line());
    }

    fn is_any(&self) -> bool {
        self.reason.is_some()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.events > 0 {
            write!(f, "{} events are lost, ", self.events)?;
        }
        if self.is_unfinished {
            f.write_str("it is not finished, ")?;
        }
        write!(
            f,
            "since {}",
            self.reason.as_deref().unwrap_or("of nothing")
        )
    }
}
