//! The task that writes for everybody: what has gathered while it was busy travels as one statement.
//!
//! A commit costs the same for one row as for a hundred, and callers who each wait for their own wait for each other as
//! well. So [`AuditStore::connect`](crate::AuditStore::connect) gives a store one task on one connection, to which its
//! callers hand what they want written. It never waits for more to come: a single caller is served at once.
//!
//! A caller who goes away takes nothing with it: the task isn't cancelled, and each of its statements commits by itself.

mod group;
mod task;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtrail_audit::Result;
use runtrail_migration::SchemaName;
use sea_orm::{
    ConnAcquireErr, DatabaseConnection, DbErr, ExecResult, QueryResult, RuntimeErr, SqlxError,
    Statement,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error;
use crate::write::Write;

/// How many calls may wait to be taken up before the next ones wait for a place.
const QUEUE: usize = 256;

/// Lanes in which calls wait for a place in the queue; runs share them.
const LANES: u64 = 256;

/// The way to the task; clones lead to the same one.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Inner>);

struct Inner {
    /// A pool of one connection, which the task holds while it has something to do.
    db: DatabaseConnection,
    task: Mutex<Task>,
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
    Forward(Statement, Answer),
    /// The last one: what has gathered behind it is done, and nothing is taken any more.
    Close,
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
            Self::Forward(_, Answer::Result(answer)) => answer.is_closed(),
            Self::Forward(_, Answer::Rows(answer)) => answer.is_closed(),
            Self::Close => false,
        }
    }
}

/// A call that can be written together with others.
struct Call {
    write: Arc<Write>,
    place: Place,
    answer: oneshot::Sender<Result<Option<()>>>,
}

/// Where and how a call is to be written, on which clones of a store may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) schema: Option<SchemaName>,
    pub(crate) has_prepared_statements: bool,
}

impl Writer {
    /// Over a pool of one connection.
    pub(crate) fn new(db: DatabaseConnection) -> Self {
        Self(Arc::new(Inner {
            db,
            task: Mutex::new(Task::None),
            lanes: (0..LANES).map(|_| tokio::sync::Mutex::default()).collect(),
        }))
    }

    /// Writes a call, perhaps together with others; none if it has to be written alone, by somebody else.
    pub(crate) async fn write(&self, write: Arc<Write>, place: Place) -> Result<Option<()>> {
        let (answer, answered) = oneshot::channel();
        let lane = self.0.lane(write.run_id()).lock().await;
        let job = Job::Write(Call {
            write,
            place,
            answer,
        });
        self.send(job).await.map_err(error::database)?;
        drop(lane);
        let answer = answered.await.map_err(|_| task_has_ended());
        answer.map_err(error::database)?
    }

    /// Executes a statement, after what came before it.
    pub(crate) async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let job = |answer| Job::Forward(statement, Answer::Result(answer));
        self.ask(job).await?
    }

    /// Runs a query, after what came before it.
    pub(crate) async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let job = |answer| Job::Forward(statement, Answer::Rows(answer));
        self.ask(job).await?
    }

    /// Lets the task end after everything that it was given, then closes its connection.
    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        let (queue, ended) = self.end();
        if let Some(queue) = queue {
            // If it has ended by itself, its callers know.
            let _ = queue.send(Job::Close).await;
        }
        let mut task = ended.lock().await;
        if let Some(handle) = &mut *task {
            let _ = handle.await;
            *task = None;
        }
        self.0.db.close_by_ref().await
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

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, DbErr> {
        let (answer, answered) = oneshot::channel();
        self.send(job(answer)).await?;
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
            Task::Closed(_) => {
                return Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed));
            }
        }
        let runtime = Handle::try_current().map_err(|err| DbErr::Custom(err.to_string()))?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let handle = runtime.spawn(task::run(self.0.db.clone(), jobs));
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

/// The task has ended without an answer, and so nobody knows whether it has written; asking again tells.
fn task_has_ended() -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(SqlxError::WorkerCrashed)))
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
