use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtrail_store::AuditStore;
use runtrail_store::audit::{
    BulkStorage, Clock, Error, Result, RunStats, RunStatus, SkillRunLog, Storage, SystemClock,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::outcome::Outcome;
use crate::failure::Failure;
use crate::output::counted;

/// Events that may wait to be stored; each has at most 16 KiB of output.
const WAITING: usize = 256;

/// The type of the event that tells how the program ended.
const EXIT: &str = "exit";

/// How long a database that is away for a while is waited for: longer than SQLite waits for a lock by itself.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long one is waited for that has been away for longer.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// Stores the events of a run as they come, and its outcome.
pub(super) struct Recorder {
    store: AuditStore,
    run_id: Arc<str>,
    events: Events,
    closing: oneshot::Sender<()>,
    storing: JoinHandle<Stored>,
}

/// Where events are handed to the [`Recorder`].
#[derive(Clone)]
pub(super) struct Events {
    run_id: Arc<str>,
    sender: mpsc::Sender<SkillRunLog>,
}

impl Events {
    /// Blocks while the database is slower than the program.
    pub(super) fn send(&self, event_type: &str, payload: Value) {
        // Fails when the run has been finished without what comes now: of which it says so.
        let _ = self.sender.blocking_send(self.event(event_type, payload));
    }

    /// An event of now. It gets its place among the others when it is stored.
    fn event(&self, event_type: &str, payload: Value) -> SkillRunLog {
        SkillRunLog {
            created_at: Some(SystemClock.now()),
            ..SkillRunLog::new(&*self.run_id, 0, event_type, payload)
        }
    }
}

impl Recorder {
    /// For a run that has been started.
    pub(super) fn new(store: AuditStore, run_id: &str) -> Self {
        let run_id: Arc<str> = run_id.into();
        let (sender, waiting) = mpsc::channel(WAITING);
        let (closing, closed) = oneshot::channel();
        Self {
            storing: tokio::spawn(store_events(store.clone(), waiting, closed)),
            events: Events {
                run_id: Arc::clone(&run_id),
                sender,
            },
            closing,
            store,
            run_id,
        }
    }

    pub(super) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Stores what is waiting, then how the program ended; an error if anything could not be stored.
    pub(super) async fn finish(self, status: RunStatus, outcome: &Outcome) -> Result<(), Loss> {
        // Whoever still has events to hand over is not waited for.
        let _ = self.closing.send(());
        let Stored { mut loss, next } = self.storing.await.unwrap_or_else(|err| Stored {
            loss: Some(Loss::because(err.to_string())),
            // Far from the places that are taken.
            next: i64::MAX.unsigned_abs(),
        });
        let exit = SkillRunLog {
            sequence: next,
            ..self.events.event(EXIT, outcome.event())
        };
        if let Err(err) = patiently(|| self.store.append_log(&exit)).await {
            Loss::add(&mut loss, 1, err);
        }
        let mut error = outcome.error();
        if let Some(loss) = &loss {
            let separator = if error.is_empty() { "" } else { "; " };
            error = format!("{error}{separator}recorded incompletely: {loss}");
        }
        let stats = RunStats {
            error,
            runtime_seconds: outcome.runtime.as_secs_f64(),
            ..RunStats::new(status)
        };
        if let Err(err) = patiently(|| self.store.finish_run(&self.run_id, &stats)).await {
            Loss::add(&mut loss, 0, err).is_unfinished = true;
        }
        loss.map_or(Ok(()), Err)
    }
}

/// What has become of the events.
struct Stored {
    loss: Option<Loss>,
    /// The place of the event that comes next.
    next: u64,
}

/// Stores events in the order in which they come, until nobody has any more, or until it is closed.
async fn store_events(
    store: AuditStore,
    mut waiting: mpsc::Receiver<SkillRunLog>,
    mut closed: oneshot::Receiver<()>,
) -> Stored {
    let mut stored = Stored {
        loss: None,
        next: 0,
    };
    let mut events = Vec::with_capacity(WAITING);
    loop {
        tokio::select! {
            biased;
            taken = waiting.recv_many(&mut events, WAITING) => if taken == 0 {
                return stored;
            },
            _ = &mut closed, if !waiting.is_closed() => waiting.close(),
        }
        for event in &mut events {
            event.sequence = stored.next;
            stored.next += 1;
        }
        let outcome = if stored.loss.is_some() {
            // The program has been kept waiting long enough.
            at_once(store.append_logs(&events)).await
        } else {
            patiently(|| store.append_logs(&events)).await
        };
        if let Err(err) = outcome {
            Loss::add(&mut stored.loss, events.len(), err);
        }
        events.clear();
    }
}

/// Doesn't wait for a database that is away. What is dropped half way is there or not, and either will do.
async fn at_once(write: impl Future<Output = Result<()>>) -> Result<()> {
    timeout(IMPATIENCE, write).await.unwrap_or_else(|elapsed| {
        Err(Error::Timeout {
            source: Box::new(elapsed),
        })
    })
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
#[derive(Debug)]
pub(super) struct Loss {
    events: usize,
    is_unfinished: bool,
    /// Why, at first.
    reason: String,
}

impl Loss {
    fn because(reason: String) -> Self {
        Self {
            events: 0,
            is_unfinished: false,
            reason,
        }
    }

    /// What is lost now beside what was lost before.
    fn add(before: &mut Option<Self>, events: usize, err: Error) -> &mut Self {
        let loss = before.get_or_insert_with(|| Self::because(Failure::from(err).in_one_line()));
        loss.events += events;
        loss
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.events > 0 {
            write!(f, "{} lost, ", counted(self.events as u64, "event"))?;
        }
        if self.is_unfinished {
            f.write_str("it is not finished, ")?;
        }
        write!(f, "since {}", self.reason)
    }
}
