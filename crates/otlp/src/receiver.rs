use std::slice;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runtrail_audit::{Clock, Error, ErrorKind, History, Result, StagedRecord, SystemClock};
use runtrail_telemetry::{LogRecord, Policy, Record, Span, read_log, read_span};
use tokio::task::{self, JoinHandle};
use tokio::time::{Instant, timeout, timeout_at};

use crate::Sink;
use crate::fold::{Folder, kind_of};
use crate::schedule::Schedule;

/// What a [`Receiver`] does with what it receives.
///
/// ```
/// use std::time::Duration;
///
/// use runtrail_otlp::ReceiverOptions;
/// use runtrail_telemetry::Policy;
///
/// let options = ReceiverOptions::new().policy(Policy::default().without_content());
/// assert_eq!(options.patience, Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use]
pub struct ReceiverOptions {
    /// What is kept of texts. By default, texts are kept up to 64 KiB each, without secrets of
    /// well-known forms.
    pub policy: Policy,
    /// How long a span waits for the spans above it, which normally arrive later. After that time,
    /// a provisional run takes the place of the missing span, until that arrives. 1 minute by
    /// default.
    pub patience: Duration,
    /// How long nothing may arrive for an open run before it ends: a provisional run, or that of a
    /// session which reports only logs. 15 minutes by default.
    pub quiet: Duration,
    /// The run above all others, if any.
    pub parent_run_id: Option<String>,
    /// The id of the span that stands for [`parent_run_id`](Self::parent_run_id), which never
    /// arrives.
    pub parent_span_id: Option<String>,
    /// The clock by which records wait; that of the system by default. It should be the clock of
    /// the store.
    pub clock: Arc<dyn Clock>,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            patience: Duration::from_secs(60),
            quiet: Duration::from_secs(15 * 60),
            parent_run_id: None,
            parent_span_id: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl ReceiverOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is kept of texts.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how long a span waits for the spans above it.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how long nothing may arrive for an open run before it ends.
    pub fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// Replaces the clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes all runs descendants of this one. A span below `span_id` counts as the root of its
    /// trace: it is the span that programs get as their parent, for example in `TRACEPARENT`.
    pub fn below(mut self, run_id: impl Into<String>, span_id: impl Into<String>) -> Self {
        self.parent_run_id = Some(run_id.into());
        self.parent_span_id = Some(span_id.into());
        self
    }
}

/// Stores received telemetry, and turns it into runs and events.
///
/// A record is staged in the database before it is acknowledged. A background task moves it to its
/// run as soon as the spans above it are known, also after a restart. Several receivers can use
/// the same database.
///
/// The task needs a tokio runtime. It ends when the last clone of the receiver is dropped.
#[derive(Clone, Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    /// Aborts the task once the last clone is dropped.
    _task: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct Shared {
    history: Arc<dyn History>,
    options: ReceiverOptions,
    schedule: Schedule,
    folder: tokio::sync::Mutex<Folder>,
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Receiver {
    /// Creates a receiver and spawns its task on the current runtime.
    ///
    /// If the store has an [owner](runtrail_audit::Owner), the runs of the receiver belong to it,
    /// and the host sends its heartbeats.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(history: Arc<dyn History>, options: ReceiverOptions) -> Self {
        let shared = Arc::new(Shared {
            folder: tokio::sync::Mutex::new(Folder::new(history.clone(), options.clone())),
            history,
            options,
            schedule: Schedule::default(),
        });
        let task = tokio::spawn(run(shared.clone()));
        Self {
            shared,
            _task: Arc::new(AbortOnDrop(task)),
        }
    }

    /// Stores what belongs to known runs, before the process ends. The rest stays staged, and so do
    /// all records if the future is dropped: the next receiver stores them.
    ///
    /// # Errors
    ///
    /// [`Timeout`](Error::Timeout) after this time, or the first error of the store.
    pub async fn flush(&self, timeout: Duration) -> Result<()> {
        within(timeout, async {
            let mut folder = self.shared.folder.lock().await;
            for group in self.shared.schedule.take_all() {
                folder.fold(&group).await?;
            }
            Ok(())
        })
        .await
    }

    /// Stores everything that has been received without waiting for missing spans, and ends the
    /// open runs. Call it once no more telemetry arrives.
    ///
    /// If the future is dropped, the rest stays staged, and the next receiver stores it.
    ///
    /// # Errors
    ///
    /// [`Timeout`](Error::Timeout) after this time, or the first error of the store: the rest then
    /// stays staged, too.
    pub async fn finish(&self, timeout: Duration) -> Result<()> {
        within(timeout, async {
            let mut folder = self.shared.folder.lock().await;
            for group in self.shared.schedule.take_all() {
                folder.fold_all(&group).await?;
            }
            folder.end_open_runs(None).await
        })
        .await
    }

    async fn stage(&self, records: Vec<Record>) -> Result<()> {
        let mut staged = Vec::with_capacity(records.len());
        for record in &records {
            staged.push(staged_record(record)?);
        }
        let history = &self.shared.history;
        match history.stage(&staged).await {
            // A single record that can't be stored must not make the sender repeat all of them for
            // ever.
            Err(err) if is_refused(&err) => {
                for record in &staged {
                    match history.stage(slice::from_ref(record)).await {
                        Err(err) if is_refused(&err) => {
                            let (group, id, reason) = (&record.group_id, &record.id, &err);
                            tracing::warn!(group, id, %reason, "left out a record of telemetry");
                        }
                        stored => stored?,
                    }
                }
            }
            stored => stored?,
        }
        let mut groups: Vec<_> = records.into_iter().map(|record| record.group).collect();
        groups.sort_unstable();
        groups.dedup();
        self.shared.schedule.changed(groups);
        Ok(())
    }
}

#[async_trait]
impl Sink for Receiver {
    async fn spans(&self, spans: Vec<Span>) -> Result<()> {
        let policy = self.shared.options.policy.clone();
        let records = off_the_executor(move || {
            let spans = spans.into_iter();
            spans.map(|span| read_span(span, &policy)).collect()
        });
        self.stage(records.await?).await
    }

    async fn logs(&self, logs: Vec<LogRecord>) -> Result<()> {
        let policy = self.shared.options.policy.clone();
        let records = off_the_executor(move || {
            let logs = logs.into_iter();
            logs.filter_map(|log| read_log(log, &policy)).collect()
        });
        self.stage(records.await?).await
    }

    async fn ready(&self) -> Result<()> {
        self.shared.history.waiting_groups("", 1).await.map(drop)
    }
}

async fn within(time: Duration, work: impl Future<Output = Result<()>> + Send) -> Result<()> {
    match timeout(time, work).await {
        Ok(done) => done,
        Err(elapsed) => Err(Error::Timeout {
            source: elapsed.into(),
        }),
    }
}

/// Whether a record can never be stored.
fn is_refused(err: &Error) -> bool {
    matches!(err.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge)
}

/// Converts a batch on a blocking thread: one of a few megabytes takes longer than a task should
/// run without a break.
async fn off_the_executor(
    convert: impl FnOnce() -> Vec<Record> + Send + 'static,
) -> Result<Vec<Record>> {
    task::spawn_blocking(convert)
        .await
        .map_err(|err| Error::Backend {
            source: err.into(),
            transient: true,
        })
}

fn staged_record(record: &Record) -> Result<StagedRecord> {
    let content = serde_json::to_value(record)
        .map_err(|err| Error::invalid("content", format!("is not valid JSON: {err}")))?;
    let mut staged = StagedRecord::new(
        record.group.as_str(),
        record.id.as_str(),
        kind_of(record).as_str(),
        record.at,
        content,
    );
    staged.parent_id = record.parent_id.clone();
    Ok(staged)
}

/// How often the store is searched for groups that other receivers have left behind, and for runs
/// that are quiet; more often if runs are quiet sooner.
const SEARCH_INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST_SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// How long settled records are remembered, so that a sender can repeat them.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

async fn run(shared: Arc<Shared>) {
    let interval = SEARCH_INTERVAL
        .min(shared.options.quiet)
        .max(SHORTEST_SEARCH_INTERVAL);
    let mut next_search = Instant::now();
    loop {
        if Instant::now() >= next_search {
            next_search = Instant::now() + interval;
            if let Err(err) = search(&shared).await {
                tracing::warn!(reason = %err, "staged telemetry can't be searched");
            }
        }
        if timeout_at(next_search, shared.schedule.wait())
            .await
            .is_err()
        {
            continue;
        }
        // Before the group is taken: a flush that has the lock finds every group.
        let mut folder = shared.folder.lock().await;
        let Some(group) = shared.schedule.take() else {
            continue;
        };
        let begun = Instant::now();
        let folded = folder.fold(&group).await;
        let took = begun.elapsed();
        match folded {
            // A large group that changes all the time takes a part of the time only.
            Ok(waiting) => shared.schedule.folded(&group, took * 4, waiting),
            Err(err) => {
                tracing::warn!(group, reason = %err, "received telemetry can't be stored yet");
                shared.schedule.failed(group);
            }
        }
    }
}

/// Finds the groups that are due although nothing has arrived for them, and ends quiet runs.
async fn search(shared: &Shared) -> Result<()> {
    const GROUPS: u64 = 1_000;

    let mut folder = shared.folder.lock().await;
    let mut after = String::new();
    loop {
        let groups = shared.history.waiting_groups(&after, GROUPS).await?;
        let is_last = groups.len() < GROUPS as usize;
        if let Some(last) = groups.last() {
            after = last.group_id.clone();
        }
        let groups = groups.into_iter().map(|group| group.group_id);
        shared.schedule.found(groups.collect());
        if is_last {
            break;
        }
    }
    folder.end_open_runs(Some(shared.options.quiet)).await?;
    let cutoff = folder.now() - REMEMBERED;
    shared.history.forget_settled(cutoff).await.map(drop)
}
