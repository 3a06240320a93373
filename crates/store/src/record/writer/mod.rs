//! Group commit: calls that queue up while the task is busy are committed together.
//!
//! A commit costs the same for one row as for a hundred, and callers that commit separately also
//! wait for each other. [`AuditStore::connect`](crate::AuditStore::connect) therefore gives a store
//! one task with one connection, to which callers send their writes. The task never waits for
//! further calls: a single call is written immediately.
//!
//! A SQLite file has a [`FileTask`] on a thread of its own, which writes all waiting calls in one
//! transaction. On PostgreSQL, and on a SQLite database that needs the driver, a [`PoolTask`] on the
//! runtime of a caller writes the calls of a group with one statement.
//!
//! A caller that gives up doesn't affect other calls: the task isn't cancelled, and a group is
//! committed as a whole.

mod blocked_runs;
#[cfg(feature = "sqlite")]
mod file_task;
mod group;
mod pool_task;
mod task;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "sqlite")]
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::{AbortHandle, Abortable};
use runtrail_audit::{Error, Result};
#[cfg(feature = "sqlite")]
use runtrail_db::SqliteFile;
use runtrail_db::{Cost, Executor, OnlyWriter, Plan, Pool, Row};
use sea_orm::{ConnAcquireErr, DatabaseConnection, DbErr, RuntimeErr, SqlxError, Statement};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout_at;

use self::blocked_runs::BlockedRuns;
#[cfg(feature = "sqlite")]
use self::file_task::FileTask;
use self::pool_task::PoolTask;
use crate::error;
use crate::record::write::Request;
use crate::settings::{Settings, Tables};

/// The number of jobs that can be queued; further callers wait for a free slot.
const QUEUE_LENGTH: usize = 256;

/// How long a statement continues after all its callers have given up.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// The number of locks in front of the queue. All calls about a run use the same one.
const RUN_LOCKS: u64 = 256;

/// A handle to the task; clones share one task.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Inner>);

struct Inner {
    target: TaskTarget,
    lock_timeout: Option<Duration>,
    task: Mutex<Task>,
    blocked: Arc<BlockedRuns>,
    /// The number of calls that wait for an answer.
    calls: AtomicUsize,
    answered: Notify,
    /// Preserve the order of the calls about a run: only the call that holds the lock waits for a
    /// slot in the queue. The queue assigns slots in order, but a caller fills its slot only when
    /// it is polled. Without the locks, a later call could fill its slot first.
    run_locks: Vec<tokio::sync::Mutex<()>>,
}

impl Inner {
    fn run_lock(&self, run_id: &str) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        run_id.hash(&mut hasher);
        // In bounds: there are `RUN_LOCKS` locks.
        &self.run_locks[(hasher.finish() % RUN_LOCKS) as usize]
    }
}

/// What the task writes to.
pub(crate) enum TaskTarget {
    /// A pool of one connection, which the task checks out while it has work.
    Pool(DatabaseConnection),
    #[cfg(feature = "sqlite")]
    File(SqliteFile),
}

/// The task starts with the first call. If its runtime shuts down or the task panics, the next call
/// starts it again.
enum Task {
    None,
    Running {
        queue: mpsc::Sender<Job>,
        handle: TaskHandle,
    },
    Closed(ClosingTask),
}

/// A running task, on a runtime or on a thread.
struct TaskHandle {
    abort: AbortHandle,
    /// Closed when the task has ended.
    ended: oneshot::Receiver<()>,
}

/// The task of a closed store, for all callers of `close`: several may wait for it at once, or one
/// may give up and another continue.
type ClosingTask = Arc<tokio::sync::Mutex<Option<TaskHandle>>>;

/// A job for the task.
enum Job {
    Write(Call),
    Forward(Forward),
    /// Closes the queue; jobs that are already queued are still processed.
    Close,
}

/// A statement that is executed in the order of the queue.
struct Forward {
    statement: Statement,
    since: Instant,
    answer: Answer,
}

/// Where to send the result of a forwarded statement.
enum Answer {
    Changes(oneshot::Sender<Result<u64, DbErr>>),
    Rows(oneshot::Sender<Result<Vec<Row>, DbErr>>),
}

impl Answer {
    /// Executes the statement that is to be answered; returns the number of rows that it has
    /// changed.
    async fn execute(self, connection: &impl Executor, statement: Statement) -> u64 {
        // The caller may have given up.
        match self {
            Self::Changes(answer) => {
                let changes = connection.changes(statement).await;
                let count = *changes.as_ref().unwrap_or(&0);
                drop(answer.send(changes));
                count
            }
            Self::Rows(answer) => {
                let rows = connection.rows(statement, Cost::Long, Plan::ByValues);
                drop(answer.send(rows.await));
                0
            }
        }
    }

    fn fail(self, err: DbErr) {
        match self {
            Self::Changes(answer) => drop(answer.send(Err(err))),
            Self::Rows(answer) => drop(answer.send(Err(err))),
        }
    }
}

impl Job {
    /// Whether no caller waits for the result any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Write(call) => call.answer.is_closed(),
            Self::Forward(forward) => match &forward.answer {
                Answer::Changes(answer) => answer.is_closed(),
                Answer::Rows(answer) => answer.is_closed(),
            },
            Self::Close => false,
        }
    }

    /// Whether the job has waited at least this long.
    fn has_waited(&self, time: Duration) -> bool {
        match self {
            Self::Write(call) => call.since.elapsed() >= time,
            Self::Forward(forward) => forward.since.elapsed() >= time,
            Self::Close => false,
        }
    }

    fn fail(self, err: DbErr) {
        match self {
            Self::Write(call) => call.answer(Err(error::database(err))),
            Self::Forward(forward) => forward.answer.fail(err),
            Self::Close => {}
        }
    }
}

/// A call that can be written together with others.
struct Call {
    write: Arc<Request>,
    target: WriteTarget,
    since: Instant,
    answer: oneshot::Sender<Result<Option<()>>>,
}

impl Call {
    fn answer(self, answer: Result<Option<()>>) {
        // The caller may have given up.
        let _ = self.answer.send(answer);
    }
}

/// Where and how a call is written; clones of a store may differ in this.
#[derive(Clone, Debug)]
pub(crate) struct WriteTarget {
    pub(crate) tables: Arc<Tables>,
    pub(crate) has_prepared_statements: bool,
}

impl PartialEq for WriteTarget {
    fn eq(&self, other: &Self) -> bool {
        self.tables.schema == other.tables.schema
            && self.has_prepared_statements == other.has_prepared_statements
    }
}

impl Writer {
    /// Creates a writer. With a `lock_timeout`, statements fail early while the whole database is
    /// locked, and are retried until a call has waited that long.
    pub(crate) fn new(target: TaskTarget, lock_timeout: Option<Duration>) -> Self {
        Self(Arc::new(Inner {
            target,
            lock_timeout,
            task: Mutex::new(Task::None),
            blocked: Arc::default(),
            calls: AtomicUsize::new(0),
            answered: Notify::new(),
            run_locks: (0..RUN_LOCKS)
                .map(|_| tokio::sync::Mutex::default())
                .collect(),
        }))
    }

    /// Makes `close` wait until the returned guard is dropped.
    ///
    /// # Errors
    ///
    /// The store is closed.
    pub(crate) fn register_call(&self) -> Result<PendingCall> {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        let pending = PendingCall(Arc::clone(&self.0));
        match &*self.task() {
            Task::Closed(_) => Err(error::database(store_closed())),
            Task::None | Task::Running { .. } => Ok(pending),
        }
    }

    /// Whether another transaction has locked the row of a run; calls about it then stay out of
    /// groups.
    pub(crate) fn is_blocked(&self, run_id: &str) -> bool {
        self.0.blocked.has(run_id)
    }

    /// Writes a call outside the groups, on a connection of this pool.
    pub(crate) async fn write_ungrouped(
        &self,
        pool: &Pool,
        settings: &Settings,
        write: Arc<Request>,
    ) -> Result<()> {
        self.0.blocked.write(pool, settings, write).await
    }

    /// Writes a call, possibly together with others. Returns `None` if the caller must write it in
    /// a separate statement.
    pub(crate) async fn write(
        &self,
        write: Arc<Request>,
        target: WriteTarget,
    ) -> Result<Option<()>> {
        let (answer, answered) = oneshot::channel();
        let since = Instant::now();
        let run_lock = self.0.run_lock(write.run_id()).lock().await;
        let job = Job::Write(Call {
            write,
            target,
            since,
            answer,
        });
        self.send(job).await.map_err(error::database)?;
        drop(run_lock);
        let answer = answered.await.map_err(|_| task_ended());
        answer.map_err(error::database)?
    }

    /// Finishes all queued jobs, ends the task, then closes its connection.
    ///
    /// # Errors
    ///
    /// [`Timeout`](runtrail_audit::Error::Timeout) if calls are still pending at the deadline; they
    /// are abandoned.
    pub(crate) async fn close(&self, deadline: tokio::time::Instant) -> Result<()> {
        let (queue, closing) = self.start_closing();
        let finish = async {
            if let Some(queue) = queue {
                // If the task has already ended, its callers have their answers.
                let _ = queue.send(Job::Close).await;
            }
            let mut task = closing.lock().await;
            if let Some(handle) = &mut *task {
                let _ = (&mut handle.ended).await;
                *task = None;
            }
            drop(task);
            self.all_answered().await;
        };
        let is_finished = timeout_at(deadline, finish).await.is_ok();
        let pending = self.0.calls.load(Ordering::Acquire);
        if !is_finished
            && let Ok(task) = closing.try_lock()
            && let Some(handle) = &*task
        {
            handle.abort.abort();
        }
        let closed = match &self.0.target {
            TaskTarget::Pool(db) => timeout_at(deadline, db.close_by_ref()).await,
            #[cfg(feature = "sqlite")]
            TaskTarget::File(_) => Ok(Ok(())),
        };
        if pending > 0 {
            tracing::warn!(calls = pending, "closed a store with calls still pending");
            return Err(Error::Timeout {
                source: format!("{pending} calls were still pending when the store was closed")
                    .into(),
            });
        }
        error::in_time(closed)
    }

    async fn all_answered(&self) {
        loop {
            let answered = self.0.answered.notified();
            if self.0.calls.load(Ordering::Acquire) == 0 {
                return;
            }
            answered.await;
        }
    }

    /// Makes the task reject new jobs. Returns its queue, to the first caller only, and its handle.
    fn start_closing(&self) -> (Option<mpsc::Sender<Job>>, ClosingTask) {
        let mut task = self.task();
        let (queue, closing) = match std::mem::replace(&mut *task, Task::None) {
            Task::None => (None, ClosingTask::default()),
            Task::Running { queue, handle } => {
                let handle = tokio::sync::Mutex::new(Some(handle));
                (Some(queue), Arc::new(handle))
            }
            Task::Closed(closing) => (None, closing),
        };
        *task = Task::Closed(Arc::clone(&closing));
        (queue, closing)
    }

    async fn forward<T>(
        &self,
        statement: Statement,
        answer: impl FnOnce(oneshot::Sender<T>) -> Answer,
    ) -> Result<T, DbErr> {
        let (sender, answered) = oneshot::channel();
        let job = Job::Forward(Forward {
            statement,
            since: Instant::now(),
            answer: answer(sender),
        });
        self.send(job).await?;
        answered.await.map_err(|_| task_ended())
    }

    /// Sends a job as soon as the queue has a free slot.
    async fn send(&self, job: Job) -> Result<(), DbErr> {
        let queue = self.queue()?;
        let sent = queue.send(job).await;
        if queue.is_closed() {
            self.forget_ended_task();
        }
        sent.map_err(|_| task_ended())
    }

    /// Forgets a task that has ended on its own, and the jobs that were sent to it at that moment.
    fn forget_ended_task(&self) {
        let mut task = self.task();
        if matches!(&*task, Task::Running { queue, .. } if queue.is_closed()) {
            *task = Task::None;
        }
    }

    fn queue(&self) -> Result<mpsc::Sender<Job>, DbErr> {
        let mut task = self.task();
        match &*task {
            Task::Running { queue, .. } if !queue.is_closed() => return Ok(queue.clone()),
            Task::Running { .. } | Task::None => {}
            Task::Closed(_) => return Err(store_closed()),
        }
        let (queue, jobs) = mpsc::channel(QUEUE_LENGTH);
        let handle = self.start_task(jobs)?;
        *task = Task::Running {
            queue: queue.clone(),
            handle,
        };
        Ok(queue)
    }

    fn start_task(&self, jobs: mpsc::Receiver<Job>) -> Result<TaskHandle, DbErr> {
        let lock_timeout = self.0.lock_timeout;
        let (guard, ended) = oneshot::channel::<()>();
        let (abort, registration) = AbortHandle::new_pair();
        match &self.0.target {
            TaskTarget::Pool(db) => {
                let runtime =
                    Handle::try_current().map_err(|err| DbErr::Custom(err.to_string()))?;
                let (db, blocked) = (db.clone(), Arc::clone(&self.0.blocked));
                let work = async move {
                    task::run(PoolTask::new(db, lock_timeout, blocked), jobs).await;
                };
                runtime.spawn(async move {
                    let _ = Abortable::new(work, registration).await;
                    drop(guard);
                });
            }
            #[cfg(feature = "sqlite")]
            TaskTarget::File(file) => {
                let work = FileTask::new(file.clone(), lock_timeout, abort.clone());
                run_on_thread(Abortable::new(task::run(work, jobs), registration), guard)?;
            }
        }
        Ok(TaskHandle { abort, ended })
    }

    fn task(&self) -> MutexGuard<'_, Task> {
        self.0.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On SQLite, all other writes go through the same queue.
#[async_trait]
impl OnlyWriter for Writer {
    async fn changes(&self, statement: Statement) -> Result<u64, DbErr> {
        self.forward(statement, Answer::Changes).await?
    }

    async fn rows(&self, query: Statement) -> Result<Vec<Row>, DbErr> {
        self.forward(query, Answer::Rows).await?
    }

    fn lock_timeout(&self) -> Option<Duration> {
        self.0.lock_timeout
    }
}

/// A call that waits for its answer.
pub(crate) struct PendingCall(Arc<Inner>);

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.answered.notify_waiters();
        }
    }
}

fn store_closed() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

/// The task has ended without an answer, so it is unknown whether it has written the call; retrying
/// the call determines that.
fn task_ended() -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(SqlxError::WorkerCrashed)))
}

/// Runs a task on a new thread, and drops the guard when the task has ended or panicked.
#[cfg(feature = "sqlite")]
fn run_on_thread<T>(
    task: impl Future<Output = T> + Send + 'static,
    guard: oneshot::Sender<()>,
) -> Result<(), DbErr> {
    let run = move || {
        let _guard = guard;
        // Built here, since a runtime that is dropped within another one panics.
        match tokio::runtime::Builder::new_current_thread().build() {
            Ok(runtime) => drop(runtime.block_on(task)),
            Err(err) => tracing::error!(
                error = &err as &dyn std::error::Error,
                "the writing thread can't run"
            ),
        }
    };
    let thread = thread::Builder::new().name("runtrail-write".to_owned());
    // The system may refuse a further thread.
    let started = thread.spawn(run).map(drop);
    started.map_err(|err| DbErr::Conn(RuntimeErr::SqlxError(Arc::new(SqlxError::Io(err)))))
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn a_panic_on_the_thread_ends_the_task_and_its_queue() {
        let (queue, jobs) = mpsc::channel::<Job>(1);
        let (guard, ended) = oneshot::channel();
        let task = async move {
            let _jobs = jobs;
            panic!("this panic is part of the test");
        };
        run_on_thread(task, guard).unwrap();
        ended.blocking_recv().unwrap_err();
        assert!(queue.is_closed());
    }
}
