use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlxError, Statement};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{error::Elapsed, sleep, timeout, timeout_at};
use tracing::{Level, event};

use super::file::ReadableFile;
use super::reader::Reader;
use super::{error, pace};
use crate::{Cost, DatabaseOptions, Row};

/// How long a query may run on the thread of its caller.
const BUDGET: Duration = Duration::from_millis(1);

/// The connections that read a SQLite file.
pub(crate) struct Readers {
    file: ReadableFile,
    connections: u32,
    acquire_timeout: Duration,
    /// How long a query waits for another process's lock.
    busy_timeout: Duration,
    logs_statements: bool,
    permits: Arc<Semaphore>,
    /// The most recently used connection is last, and is reused first.
    idle: Mutex<Vec<Reader>>,
    is_closed: AtomicBool,
    /// Until then, no query runs on the thread of its caller.
    slow_until: Mutex<Option<Instant>>,
}

/// Why an attempt has returned no rows.
enum Failure {
    /// Another connection holds a lock.
    Busy(DbErr),
    Final(DbErr),
}

impl Readers {
    pub(crate) fn new(file: ReadableFile, options: &DatabaseOptions) -> Self {
        Self {
            file,
            connections: options.max_connections,
            acquire_timeout: options.acquire_timeout,
            busy_timeout: options.busy_timeout,
            logs_statements: options.logs_statements,
            permits: Arc::new(Semaphore::new(options.max_connections as usize)),
            idle: Mutex::default(),
            is_closed: AtomicBool::new(false),
            slow_until: Mutex::default(),
        }
    }

    /// Fetches all rows of a query. Waits for locks without occupying a thread or a connection.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        statement: Statement,
        cost: Cost,
    ) -> Result<Vec<Row>, DbErr> {
        const MIN_DELAY: Duration = Duration::from_millis(1);
        const MAX_DELAY: Duration = Duration::from_millis(50);

        let mut statement_log = self.logs_statements.then(|| StatementLog::new(&statement));
        let statement = Arc::new(statement);
        let started = Instant::now();
        let mut delay = MIN_DELAY;
        let rows = loop {
            match self.attempt(&statement, cost).await {
                Ok(rows) => break Ok(rows),
                Err(Failure::Busy(_)) if started.elapsed() < self.busy_timeout => {}
                Err(Failure::Busy(err) | Failure::Final(err)) => break Err(err),
            }
            sleep(delay).await;
            delay = MAX_DELAY.min(delay * 2);
        };
        if let (Some(log), Ok(rows)) = (&mut statement_log, &rows) {
            log.rows = rows.len();
        }
        rows
    }

    async fn attempt(
        self: &Arc<Self>,
        statement: &Arc<Statement>,
        cost: Cost,
    ) -> Result<Vec<Row>, Failure> {
        pace::take_turns().await;
        let permit = self.permit().await.map_err(Failure::Final)?;
        let reader = match self.pop_idle() {
            Some(mut reader) if cost == Cost::Short && !self.is_slow() => {
                let started = Instant::now();
                let rows = reader.fetch(statement, Some(BUDGET));
                let elapsed = started.elapsed();
                pace::add(elapsed);
                self.note_duration(elapsed);
                match rows {
                    Err(err) if error::is_interrupted(&err) => reader,
                    rows => {
                        self.put_back(reader);
                        return rows.map_err(failure);
                    }
                }
            }
            Some(reader) => reader,
            None => self.open().await?,
        };
        self.fetch_on_blocking_thread(permit, reader, Arc::clone(statement))
            .await
    }

    async fn open(&self) -> Result<Reader, Failure> {
        let file = self.file.clone();
        let opened = spawn_blocking(move || Reader::open(&file)).await;
        let opened = opened.map_err(|_| Failure::Final(task_ended()))?;
        opened.map_err(failure)
    }

    /// Runs a query on a thread for blocking work. Stops it when this future is dropped.
    async fn fetch_on_blocking_thread(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        mut reader: Reader,
        statement: Arc<Statement>,
    ) -> Result<Vec<Row>, Failure> {
        let readers = Arc::clone(self);
        let stop = reader.stop_next_on_drop();
        let task = spawn_blocking(move || {
            let rows = reader.fetch(&statement, None);
            readers.put_back(reader);
            drop(permit);
            rows.map_err(failure)
        });
        let result = task.await;
        // The query has ended, so this stops nothing.
        drop(stop);
        result.unwrap_or_else(|_| Err(Failure::Final(task_ended())))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, DbErr> {
        let closed = || DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed);
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(closed());
        }
        // A permit is usually free, and a timer would cost as much as a short query.
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        timeout(
            self.acquire_timeout,
            Arc::clone(&self.permits).acquire_owned(),
        )
        .await
        .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
        .map_err(|_| closed())
    }

    /// Whether the disk or the machine was slow recently: then a query may block its thread for
    /// longer than its budget, since SQLite can't be stopped while it waits for the disk.
    fn is_slow(&self) -> bool {
        let slow_until = *lock(&self.slow_until);
        slow_until.is_some_and(|until| Instant::now() < until)
    }

    fn note_duration(&self, elapsed: Duration) {
        /// A query that takes this long wasn't stopped when its budget was used up.
        const SLOW: Duration = Duration::from_millis(2);
        /// Limits the time that threads are blocked to a tenth.
        const COOLDOWN: u32 = 10;

        if elapsed > SLOW {
            *lock(&self.slow_until) = Some(Instant::now() + COOLDOWN * elapsed);
        }
    }

    fn pop_idle(&self) -> Option<Reader> {
        lock(&self.idle).pop()
    }

    fn put_back(&self, reader: Reader) {
        if !self.is_closed.load(Ordering::Relaxed) {
            lock(&self.idle).push(reader);
        }
    }

    /// Refuses further queries, then closes the connections once the running ones have ended.
    pub(crate) async fn close(&self, deadline: tokio::time::Instant) -> Result<(), Elapsed> {
        self.is_closed.store(true, Ordering::Relaxed);
        let all = timeout_at(deadline, self.permits.acquire_many(self.connections)).await;
        self.permits.close();
        let idle = std::mem::take(&mut *lock(&self.idle));
        // Closing the last connection to a file writes the log back.
        let closed = spawn_blocking(move || drop(idle));
        // Fails only if the runtime shuts down, which drops the connections too.
        let _ = timeout_at(deadline, closed).await?;
        all.map(drop)
    }
}

impl Drop for Readers {
    /// Closes the connections on another thread, since that may write to the disk.
    fn drop(&mut self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        if !idle.is_empty() {
            let closing = std::thread::Builder::new().spawn(move || drop(idle));
            // Without a thread, they have been closed here.
            drop(closing);
        }
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(err: rusqlite::Error) -> Failure {
    match error::is_busy(&err) {
        true => Failure::Busy(error::database(err)),
        false => Failure::Final(error::database(err)),
    }
}

/// The runtime is shutting down, or the query has panicked.
fn task_ended() -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(SqlxError::WorkerCrashed)))
}

/// Logs a statement like SeaORM's driver, when it is dropped.
struct StatementLog {
    sql: String,
    rows: usize,
    started: Instant,
}

impl StatementLog {
    fn new(statement: &Statement) -> Self {
        Self {
            sql: statement.sql.clone(),
            rows: 0,
            started: Instant::now(),
        }
    }
}

impl Drop for StatementLog {
    fn drop(&mut self) {
        const SLOW: Duration = Duration::from_secs(1);

        let elapsed = self.started.elapsed();
        let elapsed_secs = elapsed.as_secs_f64();
        let (sql, rows_returned) = (&*self.sql, self.rows);
        if elapsed < SLOW {
            event!(
                target: "sqlx::query",
                Level::DEBUG,
                db.statement = sql,
                rows_returned,
                elapsed_secs
            );
        } else {
            event!(
                target: "sqlx::query",
                Level::WARN,
                db.statement = sql,
                rows_returned,
                elapsed_secs,
                "slow statement"
            );
        }
    }
}
