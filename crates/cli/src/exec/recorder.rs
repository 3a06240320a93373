use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use runtrail::{
    AuditStore, BulkStorage, Clock, Ownership, RunStats, RunStatus, SkillRunLog, Storage,
    SystemClock, keep_alive,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::database_file::DatabaseFile;
use super::loss::Loss;
use super::outcome::{Outcome, signal_name};
use super::report;
use super::retry_budget::{OUTAGE_TIMEOUT, RetryBudget, TIMEOUT_AFTER_SIGNAL};
use super::signals::{SAME_CAUSE_WINDOW, Signals};
use super::start::Stored;
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};

/// How many events may be queued. Each has at most 16 KiB of output.
const QUEUE_CAPACITY: usize = 256;

/// The most bytes of text in one statement. As JSON, binary data has six times as many, and a slow
/// database must store them before a try is given up.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// The timeout for finishing a run on new connections.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The type of the event that says how the program ended.
const EXIT: &str = "exit";

/// Stores the events of a run as they arrive, and its outcome.
pub(super) struct Recorder {
    events: Events,
    /// The deadline of all waits. It is set once the program has ended.
    deadline: watch::Sender<Option<Instant>>,
    recording: JoinHandle<Option<Recording>>,
}

/// Sends events to the [`Recorder`].
#[derive(Clone)]
pub(super) struct Events {
    run_id: Arc<str>,
    sender: mpsc::Sender<SkillRunLog>,
}

impl Events {
    /// Sends an event. Blocks while the queue is full, because the database is slower than the
    /// program.
    pub(super) fn send(&self, event_type: &str, payload: Value) {
        // Fails if the run isn't recorded, or is already finished; both are reported elsewhere.
        let _ = self.sender.blocking_send(self.event(event_type, payload));
    }

    /// Returns an event with the current time. Its sequence is set when it is stored.
    fn event(&self, event_type: &str, payload: Value) -> SkillRunLog {
        SkillRunLog::new(&*self.run_id, 0, event_type, payload).created_at(SystemClock.now())
    }
}

/// Receives the run once its start is stored.
pub(super) type Started = oneshot::Receiver<Result<Stored>>;

impl Recorder {
    /// Spawns the recording task, which first awaits `start`, the future that stores the start of
    /// the run.
    ///
    /// If that fails and [`Started`] was dropped, the task reports the failure on stderr.
    pub(super) fn new(
        run_id: &str,
        database: DatabaseArguments,
        start: impl Future<Output = Result<Stored>> + Send + 'static,
    ) -> (Self, Started) {
        let run_id: Arc<str> = run_id.into();
        let (sender, queue) = mpsc::channel(QUEUE_CAPACITY);
        let (deadline, deadline_receiver) = watch::channel(None);
        let (started, is_started) = oneshot::channel();
        let recording = async move {
            match start.await {
                Ok(stored) => {
                    // Identify the file before the program starts, since the program may replace
                    // it.
                    let recording = Recording::new(
                        stored.store.clone(),
                        database,
                        RetryBudget::new(deadline_receiver.clone()),
                    );
                    let _ = started.send(Ok(stored));
                    Some(recording.store_events(queue, deadline_receiver).await)
                }
                Err(failure) => {
                    if let Err(Err(failure)) = started.send(Err(failure)) {
                        report_unrecorded(&failure);
                    }
                    None
                }
            }
        };
        let recorder = Self {
            recording: tokio::spawn(recording),
            events: Events { run_id, sender },
            deadline,
        };
        (recorder, is_started)
    }

    pub(super) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Stores the queued events, then the outcome. Fails if anything could not be stored.
    ///
    /// A signal ends the wait for the database. If the signal has the
    /// [same cause](SAME_CAUSE_WINDOW) as the end of the program, it only shortens the wait.
    pub(super) async fn finish(
        self,
        status: RunStatus,
        outcome: &Outcome,
        signals: &mut Signals,
    ) -> Result<(), Loss> {
        let max_wait = match outcome.forwarded_signal {
            None => OUTAGE_TIMEOUT,
            Some(_) => TIMEOUT_AFTER_SIGNAL,
        };
        let started_at = Instant::now();
        let deadline = self.deadline.clone();
        let mut finished = pin!(self.finish_within(max_wait, status, outcome));
        loop {
            tokio::select! {
                // Poll `finished` first: it sets the deadline that a signal may then shorten.
                biased;
                finished = &mut finished => return finished,
                received = signals.next_fatal() => {
                    if started_at.elapsed() < SAME_CAUSE_WINDOW {
                        deadline.send_replace(Some(started_at + TIMEOUT_AFTER_SIGNAL));
                        continue;
                    }
                    let name = signal_name(received.signal);
                    let reason =
                        format!("runtrail received {name} while it waited for the database");
                    let mut loss = Loss::new(reason);
                    loss.is_unfinished = true;
                    return Err(loss);
                }
            }
        }
    }

    async fn finish_within(
        self,
        max_wait: Duration,
        status: RunStatus,
        outcome: &Outcome,
    ) -> Result<(), Loss> {
        // Don't wait for threads that still have events to send.
        self.deadline.send_replace(Some(Instant::now() + max_wait));
        let recording = match self.recording.await {
            Ok(Some(recording)) => recording,
            Ok(None) => return Ok(()),
            Err(err) => {
                let mut loss = Loss::new(err.to_string());
                loss.is_unfinished = true;
                return Err(loss);
            }
        };
        let exit = self.events.event(EXIT, outcome.event());
        recording.finish(exit, status, outcome).await
    }
}

/// Returns how many of these events fit into one statement, at least one.
fn batch_length(events: &[SkillRunLog]) -> usize {
    let mut bytes = 0;
    let fitting = events.iter().take_while(|event| {
        bytes += event.payload["text"].as_str().map_or(0, str::len);
        bytes <= MAX_BATCH_BYTES
    });
    fitting.count().max(1)
}

/// Reports why a run isn't recorded.
pub(super) fn report_unrecorded(failure: &Failure) {
    report(format!(
        "this run is not recorded: {}",
        failure.in_one_line()
    ));
}

/// A started run, and the losses among its events.
struct Recording {
    store: AuditStore,
    /// Sends heartbeats, so that no sweep ends the run; aborted when this is dropped.
    _heartbeats: JoinSet<()>,
    database: DatabaseArguments,
    file: Option<DatabaseFile>,
    budget: RetryBudget,
    loss: Option<Loss>,
    stores_one_by_one: bool,
    /// The sequence of the next event.
    next: u64,
}

impl Recording {
    fn new(store: AuditStore, database: DatabaseArguments, budget: RetryBudget) -> Self {
        let mut heartbeats = JoinSet::new();
        let owned = store.clone();
        heartbeats.spawn(async move { keep_alive(&owned).await });
        Self {
            store,
            _heartbeats: heartbeats,
            file: DatabaseFile::of(&database),
            database,
            budget,
            loss: None,
            stores_one_by_one: true,
            next: 0,
        }
    }

    /// Stores events in order until the channel is closed, or until the program has ended and the
    /// queued events are stored.
    async fn store_events(
        mut self,
        mut queue: mpsc::Receiver<SkillRunLog>,
        mut deadline: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let mut events = Vec::with_capacity(QUEUE_CAPACITY);
        loop {
            tokio::select! {
                biased;
                received = queue.recv_many(&mut events, QUEUE_CAPACITY) => if received == 0 {
                    return self;
                },
                _ = deadline.wait_for(Option::is_some), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            }
            let mut rest = events.as_mut_slice();
            while !rest.is_empty() {
                let (batch, later) = rest.split_at_mut(batch_length(rest));
                self.store(batch).await;
                rest = later;
            }
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
        match self.budget.attempt(|| store.append_logs(events)).await {
            Ok(()) => {}
            Err(err) if err.is_transient() || !self.stores_one_by_one => {
                Loss::add(&mut self.loss, events.len(), err);
            }
            Err(_) => self.store_one_by_one(events).await,
        }
    }

    /// Stores events one by one, so that only those that can't be stored are lost, for example an
    /// event whose sequence another program has used.
    async fn store_one_by_one(&mut self, events: &[SkillRunLog]) {
        let store = &self.store;
        // If no event can be stored, the cause isn't a single event: don't try one by one again.
        self.stores_one_by_one = false;
        for event in events {
            match self.budget.attempt(|| store.append_log(event)).await {
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
        if let Err(err) = self.budget.attempt(finish).await
            && !self.finish_on_new_connections(&run_id, &stats).await
        {
            Loss::add(&mut self.loss, 0, err).is_unfinished = true;
        }
        if let Some(reason) = self.file.as_ref().and_then(DatabaseFile::replaced) {
            let loss = self.loss.get_or_insert_with(|| Loss::new(reason));
            loss.is_file_replaced = true;
        }
        self.loss.map_or(Ok(()), Err)
    }

    /// Finishes the run on new connections; returns whether that succeeded.
    ///
    /// A SQLite file that can't grow may have space again: closing the last old connection moves
    /// the write-ahead log into the file.
    async fn finish_on_new_connections(&self, run_id: &str, stats: &RunStats) -> bool {
        if !self.budget.has_refused() {
            return false;
        }
        let finish = async {
            let _ = self.store.clone().close().await;
            let mut store = self.database.open().await.ok()?;
            if let Some(owner) = self.store.owner() {
                store = store.with_owner(owner.clone());
            }
            store.finish_run(run_id, stats).await.ok()
        };
        matches!(timeout(RECONNECT_TIMEOUT, finish).await, Ok(Some(())))
    }
}
