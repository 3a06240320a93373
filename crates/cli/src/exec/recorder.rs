use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use runtrail::{
    AuditStore, BulkStorage, Clock, RunStats, RunStatus, SkillRunLog, Storage, SystemClock,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::database_file::DatabaseFile;
use super::loss::Loss;
use super::outcome::{Outcome, name};
use super::patience::{AFTER_SIGNAL, PATIENCE, Patience};
use super::signals::{SAME_CAUSE, Signals};
use super::tell;
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};

/// Events that may wait to be stored; each has at most 16 KiB of output.
const WAITING: usize = 256;

/// The timeout of finishing a run on new connections.
const ANEW: Duration = Duration::from_secs(5);

/// The type of the event that tells how the program ended.
const EXIT: &str = "exit";

/// Stores the events of a run as they come, and its outcome.
pub(super) struct Recorder {
    events: Events,
    /// Set once the program has ended: the time at which all waiting ends.
    end: watch::Sender<Option<Instant>>,
    recording: JoinHandle<Option<Recording>>,
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
        // Fails if the run isn't recorded, or was finished before this event; that is reported elsewhere.
        let _ = self.sender.blocking_send(self.event(event_type, payload));
    }

    /// An event of now. It gets its place among the others when it is stored.
    fn event(&self, event_type: &str, payload: Value) -> SkillRunLog {
        SkillRunLog::new(&*self.run_id, 0, event_type, payload).created_at(SystemClock.now())
    }
}

/// Receives whether the start of the run is stored.
pub(super) type Started = oneshot::Receiver<Result<()>>;

impl Recorder {
    /// Spawns the recording task, which first awaits `start`, the future that stores the start of the run.
    ///
    /// If that fails and [`Started`] was dropped, it is reported on stderr.
    pub(super) fn new(
        run_id: &str,
        database: DatabaseArguments,
        start: impl Future<Output = Result<AuditStore>> + Send + 'static,
    ) -> (Self, Started) {
        let run_id: Arc<str> = run_id.into();
        let (sender, waiting) = mpsc::channel(WAITING);
        let (end, until) = watch::channel(None);
        let (started, is_started) = oneshot::channel();
        let recording = async move {
            match start.await {
                Ok(store) => {
                    // Notes which file it is, before the program can replace it.
                    let recording = Recording::new(store, database, Patience::new(until.clone()));
                    let _ = started.send(Ok(()));
                    Some(recording.store_events(waiting, until).await)
                }
                Err(failure) => {
                    if let Err(Err(failure)) = started.send(Err(failure)) {
                        tell_unrecorded(&failure);
                    }
                    None
                }
            }
        };
        let recorder = Self {
            recording: tokio::spawn(recording),
            events: Events { run_id, sender },
            end,
        };
        (recorder, is_started)
    }

    pub(super) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Stores the queued events, then the outcome. A signal ends the wait for the database, or shortens it if it has the
    /// [same cause](SAME_CAUSE) as the end of the program. Fails if anything could not be stored.
    pub(super) async fn finish(
        self,
        status: RunStatus,
        outcome: &Outcome,
        signals: &mut Signals,
    ) -> Result<(), Loss> {
        let patience = match outcome.passed_on {
            None => PATIENCE,
            Some(_) => AFTER_SIGNAL,
        };
        let begun = Instant::now();
        let end = self.end.clone();
        let mut finished = pin!(self.finish_within(patience, status, outcome));
        loop {
            tokio::select! {
                // Polled first, since that sets the end which a signal shortens.
                biased;
                finished = &mut finished => return finished,
                received = signals.next_fatal() => {
                    if begun.elapsed() < SAME_CAUSE {
                        end.send_replace(Some(begun + AFTER_SIGNAL));
                        continue;
                    }
                    let name = name(received.signal);
                    let reason = format!("runtrail was sent {name} while it waited for the database");
                    let mut loss = Loss::because(reason);
                    loss.is_unfinished = true;
                    return Err(loss);
                }
            }
        }
    }

    async fn finish_within(
        self,
        patience: Duration,
        status: RunStatus,
        outcome: &Outcome,
    ) -> Result<(), Loss> {
        // Don't wait for threads that still have events to hand over.
        self.end.send_replace(Some(Instant::now() + patience));
        let recording = match self.recording.await {
            Ok(Some(recording)) => recording,
            Ok(None) => return Ok(()),
            Err(err) => {
                let mut loss = Loss::because(err.to_string());
                loss.is_unfinished = true;
                return Err(loss);
            }
        };
        let exit = self.events.event(EXIT, outcome.event());
        recording.finish(exit, status, outcome).await
    }
}

/// Reports why a run isn't recorded.
pub(super) fn tell_unrecorded(failure: &Failure) {
    tell(format!(
        "this run is not recorded: {}",
        failure.in_one_line()
    ));
}

/// A started run, and the losses among its events.
struct Recording {
    store: AuditStore,
    database: DatabaseArguments,
    file: Option<DatabaseFile>,
    patience: Patience,
    loss: Option<Loss>,
    stores_one_by_one: bool,
    /// The sequence of the next event.
    next: u64,
}

impl Recording {
    fn new(store: AuditStore, database: DatabaseArguments, patience: Patience) -> Self {
        Self {
            store,
            file: DatabaseFile::of(&database),
            database,
            patience,
            loss: None,
            stores_one_by_one: true,
            next: 0,
        }
    }

    /// Stores events in their order, until the channel closes, or until the program has ended and the queued events are
    /// stored.
    async fn store_events(
        mut self,
        mut waiting: mpsc::Receiver<SkillRunLog>,
        mut end: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let mut events = Vec::with_capacity(WAITING);
        loop {
            tokio::select! {
                biased;
                taken = waiting.recv_many(&mut events, WAITING) => if taken == 0 {
                    return self;
                },
                _ = end.wait_for(Option::is_some), if !waiting.is_closed() => {
                    waiting.close();
                    continue;
                }
            }
            self.store(&mut events).await;
            events.clear();
        }
    }

    async fn store(&mut self, events: &mut [SkillRunLog]) {
        for event in &mut *events {
            event.sequence = self.next;
            self.next += 1;
        }
        let events = &*events;
        let store = &self.store;
        match self.patience.attempt(|| store.append_logs(events)).await {
            Ok(()) => {}
            Err(err) if err.is_transient() || !self.stores_one_by_one => {
                Loss::add(&mut self.loss, events.len(), err);
            }
            Err(_) => self.store_one_by_one(events).await,
        }
    }

    /// Counts only those events as lost that can't be stored, such as one whose place another program's event occupies.
    async fn store_one_by_one(&mut self, events: &[SkillRunLog]) {
        let store = &self.store;
        // If none of them can be stored, the cause isn't a single event.
        self.stores_one_by_one = false;
        for event in events {
            match self.patience.attempt(|| store.append_log(event)).await {
                Ok(()) => self.stores_one_by_one = true,
                Err(err) => {
                    Loss::add(&mut self.loss, 1, err);
                }
            }
        }
    }

    async fn finish(
        mut self,
        exit: SkillRunLog,
        status: RunStatus,
        outcome: &Outcome,
    ) -> Result<(), Loss> {
        let run_id = exit.run_id.clone();
        self.store(&mut [exit]).await;
        let mut error = outcome.error();
        if let Some(loss) = &self.loss {
            let separator = if error.is_empty() { "" } else { "; " };
            error = format!("{error}{separator}recorded incompletely: {loss}");
        }
        let stats = RunStats::new(status)
            .error(error)
            .runtime_seconds(outcome.runtime.as_secs_f64());
        let store = &self.store;
        let finish = || store.finish_run(&run_id, &stats);
        if let Err(err) = self.patience.attempt(finish).await
            && !self.finish_anew(&run_id, &stats).await
        {
            Loss::add(&mut self.loss, 0, err).is_unfinished = true;
        }
        if let Some(reason) = self.file.as_ref().and_then(DatabaseFile::replaced) {
            let loss = self.loss.get_or_insert_with(|| Loss::because(reason));
            loss.is_elsewhere = true;
        }
        self.loss.map_or(Ok(()), Err)
    }

    /// Finishes the run on new connections; returns whether that succeeded. A SQLite file that can't grow has room
    /// again once the last connection has moved the write-ahead log into it.
    async fn finish_anew(&self, run_id: &str, stats: &RunStats) -> bool {
        if !self.patience.has_refused() {
            return false;
        }
        let finish = async {
            let _ = self.store.clone().close().await;
            let store = self.database.open().await.ok()?;
            store.finish_run(run_id, stats).await.ok()
        };
        matches!(timeout(ANEW, finish).await, Ok(Some(())))
    }
}
