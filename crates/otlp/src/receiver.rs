use std::mem;
use std::panic::AssertUnwindSafe;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use runtrail_audit::{
    Clock, Error, ErrorKind, History, Result, StagedRecord, Staging, SystemClock,
};
use runtrail_telemetry::{LogRecord, Policy, Record, Span, read_log, read_span};
use serde_json::json;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::{self, JoinHandle};
use tokio::time::{Instant, timeout, timeout_at};

use crate::Sink;
use crate::fold::{Folder, Kind, kind_of, prepare};
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
    /// a provisional run takes the place of the missing span. When the span arrives, the run takes
    /// over its name, parent and outcome. 1 minute by default.
    pub patience: Duration,
    /// Ends the run of a session that reports only logs after this time without new ones.
    /// 15 minutes by default.
    pub quiet: Duration,
    /// Ends a provisional run as `interrupted` after this time without news of it. 6 hours by
    /// default.
    pub abandoned: Duration,
    /// The run of the host that the telemetry belongs to, if any.
    pub host_run: Option<HostRun>,
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
            abandoned: Duration::from_secs(6 * 60 * 60),
            host_run: None,
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

    /// Sets the time after which the run of a session ends.
    pub fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// Sets the time after which a provisional run ends.
    pub fn abandoned(mut self, abandoned: Duration) -> Self {
        self.abandoned = abandoned;
        self
    }

    /// Replaces the clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the received top-level runs children of a run that the host records itself.
    ///
    /// Such a receiver stores only what it has received itself. Without this, a receiver also
    /// stores what others have left behind in the same database.
    pub fn host_run(mut self, run: HostRun) -> Self {
        self.host_run = Some(run);
        self
    }
}

/// A run that the host records itself, and the span that stands for it in telemetry.
///
/// The host passes the trace and span ids to the program, for example in `TRACEPARENT`; the
/// program's spans then name that span as their parent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostRun {
    /// The id of the run.
    pub run_id: String,
    /// The id of the trace, 32 lower-case hex digits.
    pub trace_id: String,
    /// The id of the span, 16 lower-case hex digits.
    pub span_id: String,
}

impl HostRun {
    /// Relates a run to a span.
    pub fn new(
        run_id: impl Into<String>,
        trace_id: impl Into<String>,
        span_id: impl Into<String>,
    ) -> Self {
        Self {
            run_id: run_id.into(),
            trace_id: trace_id.into(),
            span_id: span_id.into(),
        }
    }

    /// Stores the relation, so that every receiver on the same database knows it, for a day. A
    /// [`Receiver`] does this itself for its own run.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn announce(
        &self,
        history: &(impl Staging + ?Sized),
        clock: &dyn Clock,
    ) -> Result<()> {
        let kind = Kind::Host.as_str();
        let span = self.span_id.as_str();
        let record = StagedRecord::new(&*self.trace_id, span, kind, clock.now(), json!({}));
        history.stage(&[record]).await?;
        let settled = [(span.to_owned(), self.run_id.clone())];
        history.settle(&self.trace_id, &settled).await
    }
}

/// Stores received telemetry, and turns it into runs and events.
///
/// A record is staged in the database before it is acknowledged. A background task moves it to its
/// run as soon as the spans above it are known, also after a restart. Several receivers can use the
/// same database; a trace should be sent to one of them, since a span whose parent arrives late at
/// another one may be stored in two runs.
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
    folder: Folder,
    /// Held while groups are being folded, so that `flush` and `finish` miss none.
    folding: Mutex<()>,
    /// Whether any record is about agents.
    has_received: AtomicBool,
    /// Whether the relation to the host's run is stored.
    is_announced: OnceCell<()>,
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
            folder: Folder::new(history.clone(), options.clone()),
            history,
            options,
            schedule: Schedule::default(),
            folding: Mutex::default(),
            has_received: AtomicBool::new(false),
            is_announced: OnceCell::new(),
        });
        let task = tokio::spawn(run(shared.clone()));
        Self {
            shared,
            _task: Arc::new(AbortOnDrop(task)),
        }
    }

    /// Whether anything about agents has been received.
    pub fn has_received(&self) -> bool {
        self.shared.has_received.load(Ordering::Relaxed)
    }

    /// Stores the records whose runs are known; call it before the process ends. The others stay
    /// staged for the next receiver, as do all that aren't stored yet if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Timeout`](Error::Timeout) after this time, or the first error of the store.
    pub async fn flush(&self, timeout: Duration) -> Result<()> {
        within(timeout, self.fold_scheduled(false)).await
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
            self.fold_scheduled(true).await?;
            let _folding = self.shared.folding.lock().await;
            self.shared.folder.end_own_runs().await
        })
        .await
    }

    /// Folds all groups, whenever they are due. Returns the first error, after all of them.
    async fn fold_scheduled(&self, is_last: bool) -> Result<()> {
        let shared = &*self.shared;
        let _folding = shared.folding.lock().await;
        // Those that aren't folded are due again if this future is dropped.
        let mut rest = Changed {
            schedule: &shared.schedule,
            groups: shared.schedule.take_all(),
        };
        let mut outcome = Ok(());
        while let Some(group) = rest.groups.last().cloned() {
            let folded = match is_last {
                true => shared.folder.fold_all(&group).await.map(|()| None),
                false => shared.folder.fold(&group).await,
            };
            rest.groups.pop();
            match folded {
                Ok(waiting) => shared.schedule.folded(&group, Duration::ZERO, waiting),
                Err(err) => {
                    shared.schedule.failed(group);
                    outcome = outcome.and(Err(err));
                }
            }
        }
        outcome
    }

    async fn stage(&self, records: Vec<StagedRecord>) -> Result<()> {
        let shared = &*self.shared;
        if let Some(host_run) = &shared.options.host_run {
            let announce = || host_run.announce(&*shared.history, &*shared.options.clock);
            shared.is_announced.get_or_try_init(announce).await?;
        }
        let mut groups: Vec<_> = records.iter().map(|it| it.group_id.clone()).collect();
        groups.sort_unstable();
        groups.dedup();
        let is_agentic = |record: &StagedRecord| {
            let others = [Kind::Other, Kind::OtherLog].map(Kind::as_str);
            !others.contains(&record.kind.as_str())
        };
        if records.iter().any(is_agentic) {
            shared.has_received.store(true, Ordering::Relaxed);
        }
        shared.folder.stages(&records);
        // Also if this future is dropped once the records are stored.
        let _changed = Changed {
            schedule: &shared.schedule,
            groups,
        };
        match shared.history.stage(&records).await {
            // A single record that can't be stored must not make the sender repeat all of them for
            // ever.
            Err(err) if is_refused(&err) => {
                for record in &records {
                    match shared.history.stage(slice::from_ref(record)).await {
                        Err(err) if is_refused(&err) => {
                            let (group, id, reason) = (&record.group_id, &record.id, &err);
                            tracing::error!(group, id, %reason, "left out a record of telemetry");
                        }
                        stored => stored?,
                    }
                }
                Ok(())
            }
            stored => stored,
        }
    }

    /// Converts a batch on a blocking thread: one of a few megabytes takes longer than a task
    /// should run without a break.
    async fn converted<T: Send + 'static>(
        &self,
        batch: Vec<T>,
        read: impl Fn(T, &Policy) -> Option<Record> + Send + 'static,
    ) -> Result<Vec<StagedRecord>> {
        let policy = self.shared.options.policy.clone();
        let host_run = self.shared.options.host_run.as_ref();
        let parent = host_run.map(|host_run| host_run.run_id.clone());
        let convert = move || {
            let records = batch.into_iter().filter_map(|it| read(it, &policy));
            let staged = records.map(|record| staged_record(record, parent.clone()));
            staged.collect::<Result<Vec<_>>>()
        };
        match task::spawn_blocking(convert).await {
            Ok(converted) => converted,
            Err(err) => Err(Error::Backend {
                source: err.into(),
                transient: true,
            }),
        }
    }
}

/// Makes groups due when it is dropped.
struct Changed<'a> {
    schedule: &'a Schedule,
    groups: Vec<String>,
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        self.schedule.changed(mem::take(&mut self.groups));
    }
}

#[async_trait]
impl Sink for Receiver {
    async fn spans(&self, spans: Vec<Span>) -> Result<()> {
        let read = |span, policy: &Policy| Some(read_span(span, policy));
        let records = self.converted(spans, read).await?;
        self.stage(records).await
    }

    async fn logs(&self, logs: Vec<LogRecord>) -> Result<()> {
        let records = self.converted(logs, read_log).await?;
        self.stage(records).await
    }

    async fn ready(&self) -> Result<()> {
        self.shared.history.waiting_groups("", 1).await.map(drop)
    }
}

fn staged_record(mut record: Record, parent: Option<String>) -> Result<StagedRecord> {
    record.run.parent = parent;
    if let Some(event) = &mut record.event {
        prepare(event);
    }
    let content = serde_json::to_value(&record)
        .map_err(|err| Error::invalid("content", format!("is not valid JSON: {err}")))?;
    let kind = kind_of(&record).as_str();
    let mut staged = StagedRecord::new(record.group, record.id, kind, record.at, content);
    staged.parent_id = record.parent_id;
    Ok(staged)
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

/// How often the store is searched for groups that other receivers have left behind, and for runs
/// that are quiet; more often if runs are quiet sooner.
const SEARCH_INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST_SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// How long settled records are remembered, so that a sender can send them again.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// The number of groups that are folded at the same time.
const CONCURRENCY: usize = 16;

async fn run(shared: Arc<Shared>) {
    let shortest = shared.options.quiet.min(shared.options.abandoned);
    let interval = SEARCH_INTERVAL.min(shortest).max(SHORTEST_SEARCH_INTERVAL);
    let mut next_search = Instant::now();
    let mut is_first = true;
    loop {
        if Instant::now() >= next_search {
            next_search = Instant::now() + interval;
            match search(&shared, is_first).await {
                Ok(()) => is_first = false,
                Err(err) => tracing::warn!(reason = %err, "staged telemetry can't be searched"),
            }
        }
        if timeout_at(next_search, shared.schedule.is_due())
            .await
            .is_err()
        {
            continue;
        }
        let _folding = shared.folding.lock().await;
        let mut folds = Vec::with_capacity(CONCURRENCY);
        for group in shared.schedule.take_due(CONCURRENCY) {
            folds.push(fold(&shared, group));
        }
        join_all(folds).await;
    }
}

async fn fold(shared: &Shared, group: String) {
    let begun = Instant::now();
    // A panic must not end the task: the receiver would go on acknowledging.
    let folded = AssertUnwindSafe(shared.folder.fold(&group))
        .catch_unwind()
        .await;
    let reason = match folded {
        Ok(Ok(waiting)) => {
            // Limits a large, busy group to a fifth of the task's time.
            let rest = begun.elapsed() * 4;
            return shared.schedule.folded(&group, rest, waiting);
        }
        Ok(Err(err)) => err.to_string(),
        Err(_) => "a panic".to_owned(),
    };
    tracing::warn!(group, reason, "received telemetry can't be stored yet");
    shared.schedule.failed(group);
}

/// Finds what other receivers have left behind, and ends quiet runs.
async fn search(shared: &Shared, is_first: bool) -> Result<()> {
    const GROUPS: u64 = 1_000;

    let options = &shared.options;
    // Another process may be receiving the rest.
    if options.host_run.is_some() {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        let groups = shared.history.waiting_groups(&after, GROUPS).await?;
        let is_last = groups.len() < GROUPS as usize;
        if let Some(last) = groups.last() {
            after = last.group_id.clone();
        }
        for group in groups {
            let waited = options.clock.now() - group.first_received_at;
            let waited = waited.to_std().unwrap_or_default();
            let left = match is_first {
                // Another process may have ended before it stored them.
                true => Duration::ZERO,
                false => options.patience.saturating_sub(waited),
            };
            // What has just been staged is due soon anyway.
            shared
                .schedule
                .found(group.group_id, left.min(SEARCH_INTERVAL));
        }
        if is_last {
            break;
        }
    }
    let ended = {
        let _folding = shared.folding.lock().await;
        shared.folder.end_quiet_runs().await
    };
    let forgotten = shared
        .history
        .forget_settled(options.clock.now() - REMEMBERED)
        .await;
    ended.and(forgotten.map(drop))
}
