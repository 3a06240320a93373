use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use runtrail_db::{DriverErrorKind, Executor, PooledConnection, backend};
use sea_orm::{ConnAcquireErr, DatabaseConnection, DbErr};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::blocked_runs::BlockedRuns;
use super::group::{self, Grouping};
use super::task::{self, Work, fail_overdue, requeue, settle};
use super::{Call, Forward, GRACE_PERIOD, Job};
use crate::error;
use crate::record::write;
use crate::settings::{Session, Settings};

/// How long an idle connection stays checked out; it may be up to twice as long. This is long
/// enough to keep the connection between two calls of a single caller, and short enough not to
/// delay a migration noticeably.
const IDLE_TIMEOUT: Duration = Duration::from_millis(100);

/// Writes through a pool of SeaORM's driver: to PostgreSQL, and to the SQLite databases that need
/// the driver. Each statement is committed on its own.
pub(super) struct PoolTask {
    db: DatabaseConnection,
    /// How long a call waits for a connection.
    acquire_timeout: Duration,
    /// How long a call waits while another process locks the whole database.
    lock_timeout: Option<Duration>,
    blocked: Arc<BlockedRuns>,
    grouping: Grouping,
    connection: Option<PooledConnection>,
    /// One timer for all pauses: a new timer for each pause would cost a system call.
    idle_timer: Interval,
    settings: Settings,
    /// Rows written since the planner's statistics were checked, including failed attempts.
    rows: u64,
}

impl PoolTask {
    pub(super) fn new(
        db: DatabaseConnection,
        lock_timeout: Option<Duration>,
        blocked: Arc<BlockedRuns>,
    ) -> Self {
        Self {
            acquire_timeout: backend::pool_size(&db).map_or(Duration::MAX, |(_, timeout)| timeout),
            lock_timeout,
            blocked,
            grouping: match backend::combines_statements(db.get_database_backend()) {
                true => Grouping::OneKindPerRun,
                false => Grouping::OneKind,
            },
            db,
            connection: None,
            idle_timer: idle_timer(),
            settings: Settings::default(),
            rows: 0,
        }
    }

    async fn write(&mut self, waiting: &mut Vec<Job>) {
        let mut calls = group::take_first(waiting, self.grouping);
        let Some(Call { target, since, .. }) = calls.first() else {
            return;
        };
        let (target, since) = (target.clone(), *since);
        let connection = match self.connection(target.has_prepared_statements, since).await {
            Ok(connection) => connection,
            Err(err) if DriverErrorKind::of(&err) == DriverErrorKind::NoConnection => {
                requeue(waiting, calls);
                return fail_overdue(waiting, &err, self.acquire_timeout);
            }
            Err(err) => {
                for call in calls {
                    call.answer(Err(error::database(err.clone())));
                }
                return;
            }
        };
        self.settings.tables = target.tables;
        let writes: Vec<_> = calls.iter().map(|call| Arc::clone(&call.write)).collect();
        let answers = {
            let session = Session::shared(&connection, &self.settings);
            let written = write::write_group(&session, &writes);
            tokio::select! {
                biased;
                answers = written => Some(answers),
                () = all_given_up(&connection, &mut calls) => None,
            }
        };
        self.put_back(connection, answers.is_some());
        self.rows += writes.len() as u64;
        let answers = answers.unwrap_or_default();
        for (call, answer) in calls.iter().zip(&answers) {
            if answer.is_none() {
                self.blocked.remember(call.write.run_id());
            }
        }
        settle(waiting, calls, answers, self.lock_timeout);
    }

    async fn forward(&mut self, forward: Forward, waiting: &mut Vec<Job>) {
        let Forward {
            statement,
            since,
            answer,
        } = forward;
        let connection = match self.connection(true, since).await {
            Ok(connection) => connection,
            Err(err) => {
                fail_overdue(waiting, &err, self.acquire_timeout);
                return answer.fail(err);
            }
        };
        self.rows += answer.execute(&connection, statement).await;
        self.put_back(connection, true);
    }

    /// Returns the connection; checks it out if necessary, for a call that was made at `since`.
    async fn connection(
        &mut self,
        has_prepared_statements: bool,
        since: Instant,
    ) -> Result<PooledConnection, DbErr> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                // With a lock timeout, a call may have waited for the file's lock instead of a
                // connection, so its time in the queue doesn't count. No other user keeps the
                // task's connection for long.
                let waited = match self.lock_timeout {
                    Some(_) => Duration::ZERO,
                    None => since.elapsed(),
                };
                let left = self.acquire_timeout.saturating_sub(waited);
                timeout(left, PooledConnection::acquire(&self.db))
                    .await
                    .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))??
            }
        };
        Ok(connection.prepares_statements(has_prepared_statements))
    }

    fn put_back(&mut self, connection: PooledConnection, is_answered: bool) {
        if !is_answered || connection.has_failed() {
            connection.discard();
        } else if !connection.is_old() {
            self.connection = Some(connection);
        }
    }
}

impl Work for PoolTask {
    async fn wait(&mut self, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
        let mut has_ticked = false;
        while self.connection.is_some() {
            tokio::select! {
                biased;
                job = queue.recv() => return job,
                _ = self.idle_timer.tick() => {
                    if has_ticked {
                        self.connection = None;
                    }
                    has_ticked = true;
                }
            }
        }
        queue.recv().await
    }

    async fn process(&mut self, waiting: &mut Vec<Job>) {
        if let Some(Job::Write(_)) = waiting.first() {
            self.write(waiting).await;
        } else if !waiting.is_empty()
            && let Job::Forward(forward) = waiting.remove(0)
        {
            self.forward(forward, waiting).await;
        }
    }

    async fn check_statistics(&mut self) {
        self.rows = 0;
        let Some(optimize) = backend::optimize(self.db.get_database_backend()) else {
            return;
        };
        if let Ok(connection) = self.connection(true, Instant::now()).await {
            task::optimize(&connection, optimize).await;
            self.put_back(connection, true);
        }
    }

    fn rows(&self) -> u64 {
        self.rows
    }
}

fn idle_timer() -> Interval {
    let mut timer = interval(IDLE_TIMEOUT);
    // Ticks that were missed while no connection was checked out don't matter.
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// Waits until all callers have given up, plus the grace period.
///
/// A PostgreSQL server may never answer. On SQLite this waits forever: SQLite always answers, and
/// its statements can't be interrupted.
async fn all_given_up(connection: &PooledConnection, calls: &mut [Call]) {
    if !backend::has_schemas(connection.backend()) {
        return std::future::pending().await;
    }
    join_all(calls.iter_mut().map(|call| call.answer.closed())).await;
    sleep(GRACE_PERIOD).await;
}
