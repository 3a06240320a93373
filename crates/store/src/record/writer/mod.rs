//! The task that writes for everybody: what has gathered while it was busy travels as one statement.
//!
//! A commit costs the same for one row as for a hundred, and callers who each wait for their own wait for each other as
//! well. So [`AuditStore::connect`](crate::AuditStore::connect) gives a store one task on one connection, to which its
//! callers hand what they want written. It never waits for more to come: a single caller is served at once.
//!
//! A caller who goes away takes nothing with it: the task isn't cancelled, and each of its statements commits by itself.

mod blocked;
mod group;
mod task;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runtrail_audit::{Error, Result};
use runtrail_db::{OnlyWriter, Pool};
use runtrail_migration::SchemaName;
use sea_orm::{
    ConnAcquireErr, DatabaseConnection, DbErr, ExecResult, QueryResult, RuntimeErr, SqlxError,
    Statement,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use self::blocked::Blocked;
use crate::error;
use crate::record::write::Request;
use crate::settings::Settings;

/// How many calls may wait to be taken up before the next ones wait for a place.
const QUEUE: usize = 256;

/// How long a statement continues after all its callers have given up.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// Lanes in which calls wait for a place in the queue; runs share them.
const LANES: u64 = 256;

/// The way to the task; clones lead to the same one.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Inner>);

struct Inner {
    /// A pool of one connection, which the task holds while it has something to do.
    db: DatabaseConnection,
    lock_timeout: Option<Duration>,
    task: Mutex<Task>,
    blocked: Arc<Blocked>,
    /// The number of calls that wait for an answer.
    calls: AtomicUsize,
    answered: Notify,
    /// Where the calls about a run line up for a place, which only the first of a lane waits for: the queue gives its
    /// places to whoever has waited longest, but each takes its own when it is polled, and in between a later call may.
    lanes: Vec<tokio::sync::Mutex<()>>,
}

impl Inner {
    fn lane(&self, run_id: &str) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        run_id.hash(&mut hasher);
        // Within the list, since it is that long.
        &self.lanes[(hasher.finish() % LANES) as usize]
    }
}

/// It begins with the first call, and anew if it has ended: with its runtime, or by a panic.
enum Task {
    None,
    Running {
        queue: mpsc::Sender<Job>,
        handle: JoinHandle<()>,
    },
    Closed(Ended),
}

/// Whoever closes a store waits for this: several may, or one who gives up and another.
type Ended = Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>;

/// Something to do on the connection.
enum Job {
    Write(Call),
    Forward(Forward),
    /// The last one: what has gathered behind it is done, and nothing is taken any more.
    Close,
}

/// A statement that is executed in its turn.
struct Forward {
    statement: Statement,
    since: Instant,
    answer: Answer,
}

/// Who waits for what a statement gives.
enum Answer {
    Result(oneshot::Sender<Result<ExecResult, DbErr>>),
    Rows(oneshot::Sender<Result<Vec<QueryResult>, DbErr>>),
}

impl Answer {
    fn fail(self, err: DbErr) {
        // Nobody may be waiting for it any more.
        match self {
            Self::Result(answer) => drop(answer.send(Err(err))),
            Self::Rows(answer) => drop(answer.send(Err(err))),
        }
    }
}

impl Job {
    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Write(call) => call.answer.is_closed(),
            Self::Forward(forward) => match &forward.answer {
                Answer::Result(answer) => answer.is_closed(),
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
    place: Place,
    since: Instant,
    answer: oneshot::Sender<Result<Option<()>>>,
}

impl Call {
    fn answer(self, answer: Result<Option<()>>) {
        // The caller may have given up.
        let _ = self.answer.send(answer);
    }
}

/// Where and how a call is to be written, on which clones of a store may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) schema: Option<SchemaName>,
    pub(crate) has_prepared_statements: bool,
}

impl Writer {
    /// A writer over a pool of one connection. With a `lock_timeout`, statements fail early while the whole database is
    /// locked, and are repeated until a call has waited that long.
    pub(crate) fn new(db: DatabaseConnection, lock_timeout: Option<Duration>) -> Self {
        Self(Arc::new(Inner {
            db,
            lock_timeout,
            task: Mutex::new(Task::None),
            blocked: Arc::default(),
            calls: AtomicUsize::new(0),
            answered: Notify::new(),
            lanes: (0..LANES).map(|_| tokio::sync::Mutex::default()).collect(),
        }))
    }

    /// Makes `close` wait until the returned guard is dropped.
    ///
    /// # Errors
    ///
    /// The store is closed.
    pub(crate) fn begin(&self) -> Result<Waiting> {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        let waiting = Waiting(Arc::clone(&self.0));
        match &*self.task() {
            Task::Closed(_) => Err(error::database(closed())),
            Task::None | Task::Running { .. } => Ok(waiting),
        }
    }

    /// Whether another transaction locks the row of a run, so that calls about it stay out of the groups.
    pub(crate) fn is_blocked(&self, run_id: &str) -> bool {
        self.0.blocked.has(run_id)
    }

    /// Writes a call outside the groups, on a connection of this pool.
    pub(crate) async fn write_apart(
        &self,
        pool: &Pool,
        settings: &Settings,
        write: Arc<Request>,
    ) -> Result<()> {
        self.0.blocked.write(pool, settings, write).await
    }

    /// Writes a call, perhaps together with others; none if it has to be written alone, by somebody else.
    pub(crate) async fn write(&self, write: Arc<Request>, place: Place) -> Result<Option<()>> {
        let (answer, answered) = oneshot::channel();
        let since = Instant::now();
        let lane = self.0.lane(write.run_id()).lock().await;
        let job = Job::Write(Call {
            write,
            place,
            since,
            answer,
        });
        self.send(job).await.map_err(error::database)?;
        drop(lane);
        let answer = answered.await.map_err(|_| task_has_ended());
        answer.map_err(error::database)?
    }

    /// Lets the task end after everything that it was given, then closes its connection.
    ///
    /// # Errors
    ///
    /// [`Timeout`](runtrail_audit::Error::Timeout) if calls are pending at the deadline; they are then given up.
    pub(crate) async fn close(&self, deadline: tokio::time::Instant) -> Result<()> {
        let (queue, ended) = self.end();
        let finish = async {
            if let Some(queue) = queue {
                // If the task has already ended, its callers have their answers.
                let _ = queue.send(Job::Close).await;
            }
            let mut task = ended.lock().await;
            if let Some(handle) = &mut *task {
                let _ = handle.await;
                *task = None;
            }
            drop(task);
            self.all_answered().await;
        };
        let is_finished = timeout_at(deadline, finish).await.is_ok();
        let given_up = self.0.calls.load(Ordering::Acquire);
        if !is_finished
            && let Ok(task) = ended.try_lock()
            && let Some(handle) = &*task
        {
            handle.abort();
        }
        let closed = timeout_at(deadline, self.0.db.close_by_ref()).await;
        if given_up > 0 {
            tracing::warn!(
                calls = given_up,
                "closed a store before these calls were answered"
            );
            return Err(Error::Timeout {
                source: format!("{given_up} calls were given up when the store was closed").into(),
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

    /// Takes nothing more; the way to the task, for the first who closes it.
    fn end(&self) -> (Option<mpsc::Sender<Job>>, Ended) {
        let mut task = self.task();
        let (queue, ended) = match std::mem::replace(&mut *task, Task::None) {
            Task::None => (None, Ended::default()),
            Task::Running { queue, handle } => {
                let handle = tokio::sync::Mutex::new(Some(handle));
                (Some(queue), Arc::new(handle))
            }
            Task::Closed(ended) => (None, ended),
        };
        *task = Task::Closed(Arc::clone(&ended));
        (queue, ended)
    }

    async fn ask<T>(
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
        answered.await.map_err(|_| task_has_ended())
    }

    /// Waits for a place in the queue, and takes it.
    async fn send(&self, job: Job) -> Result<(), DbErr> {
        let queue = self.queue()?;
        let sent = queue.send(job).await;
        if queue.is_closed() {
            self.forget_ended();
        }
        sent.map_err(|_| task_has_ended())
    }

    /// Lets go of a task that has ended by itself, and of what was sent to it in that moment.
    fn forget_ended(&self) {
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
            Task::Closed(_) => return Err(closed()),
        }
        let runtime = Handle::try_current().map_err(|err| DbErr::Custom(err.to_string()))?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let blocked = Arc::clone(&self.0.blocked);
        let work = task::run(self.0.db.clone(), self.0.lock_timeout, blocked, jobs);
        let handle = runtime.spawn(work);
        *task = Task::Running {
            queue: queue.clone(),
            handle,
        };
        Ok(queue)
    }

    fn task(&self) -> MutexGuard<'_, Task> {
        self.0.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On SQLite, everything else that writes waits for its turn in the same queue.
#[async_trait]
impl OnlyWriter for Writer {
    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.ask(statement, Answer::Result).await?
    }

    async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.ask(statement, Answer::Rows).await?
    }

    fn lock_timeout(&self) -> Option<Duration> {
        self.0.lock_timeout
    }
}

/// A call that waits for its answer.
pub(crate) struct Waiting(Arc<Inner>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.answered.notify_waiters();
        }
    }
}

fn closed() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

/// The task has ended without an answer, and so nobody knows whether it has written; asking again tells.
fn task_has_ended() -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(SqlxError::WorkerCrashed)))
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
