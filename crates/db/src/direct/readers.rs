use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{ConnAcquireErr, DbErr, Statement};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{error::Elapsed, sleep, timeout, timeout_at};

use super::file::SqliteFile;
use super::reader::Reader;
use super::statement_log::StatementLog;
use super::{error, pace, thread};
use crate::{Cost, DatabaseOptions, Plan, Row, backend};

/// How long a query may run on the thread of its caller.
const BUDGET: Duration = Duration::from_millis(1);

/// How long a query of varying cost may run there. If it takes longer, this time is wasted; to
/// begin such a query on another thread would cost a tenth of it.
const BUDGET_OF_VARYING: Duration = Duration::from_micros(250);

/// What a query that has blocked its caller's thread adds to the slowness.
const SLOW_QUERY: u32 = 8;

/// The slowness from which queries run on separate threads, until it has fallen.
const SLOW_DISK: u32 = 3 * SLOW_QUERY;

/// The maximum number of concurrent calls; never reached.
const MAX_CALLS: u32 = u32::MAX >> 4;

/// The connections that read a SQLite file.
pub(crate) struct Readers {
    file: SqliteFile,
    connections: u32,
    acquire_timeout: Duration,
    /// How long a query waits for another process's lock.
    busy_timeout: Duration,
    /// One per connection.
    permits: Arc<Semaphore>,
    /// One per call, so that `close` can wait for all of them.
    calls: Semaphore,
    /// The most recently used connection is last, and is reused first.
    idle: Mutex<Vec<Reader>>,
    /// Reads the data version, whose values are comparable only on one connection.
    observer: tokio::sync::Mutex<Option<Reader>>,
    is_closing: AtomicBool,
    /// Whether `close` has completed. Locked while one of its callers closes the connections.
    is_closed: tokio::sync::Mutex<bool>,
    /// Rises with each query that has blocked its caller's thread, and falls with all others.
    slowness: AtomicU32,
    /// Whether the last query of varying cost took longer than its budget.
    is_varying_long: AtomicBool,
}

/// Why an attempt has returned no rows.
enum Failure {
    /// Another connection holds a lock.
    Busy(DbErr),
    Final(DbErr),
}

impl Readers {
    pub(crate) fn new(file: SqliteFile, options: &DatabaseOptions) -> Self {
        Self {
            file,
            connections: options.max_connections,
            acquire_timeout: options.acquire_timeout,
            busy_timeout: options.busy_timeout,
            permits: Arc::new(Semaphore::new(options.max_connections as usize)),
            calls: Semaphore::new(MAX_CALLS as usize),
            idle: Mutex::default(),
            observer: tokio::sync::Mutex::default(),
            is_closing: AtomicBool::new(false),
            is_closed: tokio::sync::Mutex::default(),
            slowness: AtomicU32::new(0),
            is_varying_long: AtomicBool::new(false),
        }
    }

    /// Fetches all rows of a query. Waits for locks without occupying a thread or a connection.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        statement: Statement,
        cost: Cost,
        plan: Plan,
    ) -> Result<Vec<Row>, DbErr> {
        const MIN_DELAY: Duration = Duration::from_millis(1);
        const MAX_DELAY: Duration = Duration::from_millis(50);

        let _call = self.register_call()?;
        let mut statement_log = self
            .file
            .logs_statements
            .then(|| StatementLog::new(&statement.sql));
        let statement = Arc::new(statement);
        // To change the plan of the only connection would cost more than a fixed plan saves.
        let plan = match self.connections {
            1 => Plan::ByValues,
            _ => plan,
        };
        let started = Instant::now();
        let mut delay = MIN_DELAY;
        let rows = loop {
            match self.attempt(&statement, cost, plan).await {
                Ok(rows) => break Ok(rows),
                Err(Failure::Busy(_)) if started.elapsed() < self.busy_timeout => {}
                Err(Failure::Busy(err) | Failure::Final(err)) => break Err(err),
            }
            sleep(delay).await;
            delay = MAX_DELAY.min(delay * 2);
        };
        if let (Some(log), Ok(rows)) = (&mut statement_log, &rows) {
            log.set_rows(rows.len());
        }
        rows
    }

    /// Returns a number that changes with each commit of another connection.
    pub(crate) async fn data_version(&self) -> Result<i64, DbErr> {
        let _call = self.register_call()?;
        let mut observer = self.observer.lock().await;
        let mut reader = match observer.take() {
            Some(reader) => reader,
            None => {
                let file = self.file.clone();
                let opened = thread::run(move || Reader::open(&file)).await?;
                opened.map_err(error::database)?
            }
        };
        // SQLite reads this number from shared memory.
        let rows = reader.fetch(&backend::data_version(), Plan::Fixed, None);
        let rows = rows.map_err(error::database)?;
        let version = rows.first().map_or(Ok(0), |row| row.get(0))?;
        *observer = Some(reader);
        Ok(version)
    }

    /// Makes `close` wait until the returned permit is dropped.
    fn register_call(&self) -> Result<SemaphorePermit<'_>, DbErr> {
        match self.calls.try_acquire() {
            Ok(call) if !self.is_closing.load(Ordering::Acquire) => Ok(call),
            _ => Err(closed()),
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        statement: &Arc<Statement>,
        cost: Cost,
        plan: Plan,
    ) -> Result<Vec<Row>, Failure> {
        pace::take_turns().await;
        let permit = self.permit().await.map_err(Failure::Final)?;
        let (reader, permit) = match (self.pop_idle(plan), self.budget(cost, plan)) {
            (Some(mut reader), Some(budget)) => {
                let started = Instant::now();
                let rows = reader.fetch(statement, plan, Some(budget));
                let elapsed = started.elapsed();
                pace::add(elapsed);
                self.note_duration(elapsed);
                if cost == Cost::Varying && elapsed > budget {
                    self.is_varying_long.store(true, Ordering::Relaxed);
                }
                match rows {
                    Err(err) if error::is_interrupted(&err) && !reader.is_suspect() => {
                        (reader, permit)
                    }
                    Err(err) if error::is_interrupted(&err) => self.open(permit).await?,
                    rows => {
                        self.put_back(reader);
                        return rows.map_err(failure);
                    }
                }
            }
            (Some(reader), None) => (reader, permit),
            (None, _) => self.open(permit).await?,
        };
        self.note_duration(Duration::ZERO);
        let (rows, elapsed) = self
            .fetch_on_thread(permit, reader, Arc::clone(statement), plan)
            .await?;
        if cost == Cost::Varying && rows.is_ok() {
            let is_long = elapsed > BUDGET_OF_VARYING;
            self.is_varying_long.store(is_long, Ordering::Relaxed);
        }
        rows
    }

    /// Returns how long a query may run on the thread of its caller; `None` if not at all.
    fn budget(&self, cost: Cost, plan: Plan) -> Option<Duration> {
        // On a slow disk a query may block its thread for longer than its budget, since SQLite can't
        // be stopped while it waits for the disk.
        let is_slow = self.slowness.load(Ordering::Relaxed) >= SLOW_DISK;
        match cost {
            _ if is_slow => None,
            Cost::Short => Some(BUDGET),
            // A query that is stopped while SQLite plans it again costs its connection.
            Cost::Varying if plan == Plan::ByValues => None,
            Cost::Varying => {
                let is_long = self.is_varying_long.load(Ordering::Relaxed);
                (!is_long).then_some(BUDGET_OF_VARYING)
            }
            Cost::Long => None,
        }
    }

    /// Opens a connection. The opening thread owns the permit, so dropping this future doesn't
    /// release it early.
    async fn open(
        &self,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Reader, OwnedSemaphorePermit), Failure> {
        let file = self.file.clone();
        let open = move || Ok((Reader::open(&file).map_err(failure)?, permit));
        thread::run(open).await.map_err(Failure::Final)?
    }

    /// Runs a query on a separate thread. Stops it when this future is dropped. Returns its result
    /// and its duration.
    async fn fetch_on_thread(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        mut reader: Reader,
        statement: Arc<Statement>,
        plan: Plan,
    ) -> Result<(Result<Vec<Row>, Failure>, Duration), Failure> {
        let readers = Arc::clone(self);
        let stop = reader.stop_next_on_drop();
        let result = thread::run(move || {
            let started = Instant::now();
            let rows = reader.fetch(&statement, plan, None);
            let elapsed = started.elapsed();
            readers.put_back(reader);
            drop(permit);
            (rows.map_err(failure), elapsed)
        });
        let result = result.await;
        // The query has ended, so this stops nothing.
        drop(stop);
        result.map_err(Failure::Final)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, DbErr> {
        // A permit is usually free, and a timer would cost as much as a short query.
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let acquired = Arc::clone(&self.permits).acquire_owned();
        timeout(self.acquire_timeout, acquired)
            .await
            .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
            .map_err(|_| closed())
    }

    fn note_duration(&self, elapsed: Duration) {
        /// A query that takes this long wasn't stopped when its budget was used up. A single one may
        /// be due to a busy processor.
        const SLOW: Duration = Duration::from_millis(2);

        let slowness = self.slowness.load(Ordering::Relaxed);
        let changed = match elapsed > SLOW {
            true => SLOW_DISK.min(slowness + SLOW_QUERY),
            false => slowness.saturating_sub(1),
        };
        if changed != slowness {
            self.slowness.store(changed, Ordering::Relaxed);
        }
    }

    /// Returns an idle connection, preferably one that has planned its last query in this way.
    /// Returns `None` if another connection may be opened instead.
    fn pop_idle(&self, plan: Plan) -> Option<Reader> {
        let mut idle = lock(&self.idle);
        match idle.iter().rposition(|reader| reader.plan() == plan) {
            Some(position) => Some(idle.remove(position)),
            // As many connections are unopened as there are permits that belong to none.
            None if idle.len() <= self.permits.available_permits() => None,
            None => idle.pop(),
        }
    }

    fn put_back(&self, reader: Reader) {
        if !reader.is_suspect() {
            lock(&self.idle).push(reader);
        }
    }

    /// Refuses further queries, then closes the connections once the pending ones have ended.
    pub(crate) async fn close(&self, deadline: tokio::time::Instant) -> Result<(), Elapsed> {
        self.is_closing.store(true, Ordering::Release);
        let close = async {
            let mut is_closed = self.is_closed.lock().await;
            if *is_closed {
                return;
            }
            let calls = self.calls.acquire_many(MAX_CALLS).await;
            // A call that was dropped may still have a connection.
            let connections = self.permits.acquire_many(self.connections).await;
            let idle = std::mem::take(&mut *lock(&self.idle));
            let idle = (idle, self.observer.lock().await.take());
            // Closing the last connection to a file writes the log back. If no thread can be
            // started, this one closes them.
            let _ = thread::run(move || drop(idle)).await;
            self.permits.close();
            *is_closed = true;
            drop((calls, connections));
        };
        timeout_at(deadline, close).await
    }
}

impl Drop for Readers {
    /// Closes the connections on another thread, since closing may write to the disk.
    fn drop(&mut self) {
        let mut idle = std::mem::take(&mut *lock(&self.idle));
        idle.extend(self.observer.get_mut().take());
        if !idle.is_empty() {
            let closing = std::thread::Builder::new().spawn(move || drop(idle));
            // If no thread was started, the connections are already closed.
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

fn closed() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Durability;
    use crate::connect::Access;

    fn readers() -> Readers {
        let options = DatabaseOptions::new("sqlite::memory:");
        let file = SqliteFile {
            path: "unopened".into(),
            access: Access::Read,
            is_immutable: false,
            durability: Durability::Full,
            busy_timeout: Duration::ZERO,
            logs_statements: false,
        };
        Readers::new(file, &options)
    }

    #[test]
    fn a_query_runs_on_its_callers_thread_if_it_is_probably_short() {
        let readers = readers();
        let varying = || readers.budget(Cost::Varying, Plan::Fixed);
        assert_eq!(readers.budget(Cost::Short, Plan::ByValues), Some(BUDGET));
        assert_eq!(readers.budget(Cost::Long, Plan::Fixed), None);
        assert_eq!(readers.budget(Cost::Varying, Plan::ByValues), None);
        assert_eq!(varying(), Some(BUDGET_OF_VARYING));
        readers.is_varying_long.store(true, Ordering::Relaxed);
        assert_eq!(varying(), None);
        readers.is_varying_long.store(false, Ordering::Relaxed);
        assert_eq!(varying(), Some(BUDGET_OF_VARYING));
        for _ in 0..3 {
            readers.note_duration(Duration::from_millis(5));
        }
        assert_eq!(varying(), None);
        assert_eq!(readers.budget(Cost::Short, Plan::Fixed), None);
    }
}
