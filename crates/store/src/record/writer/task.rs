use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use runtrail_audit::Error;
use runtrail_db::{DriverErrorKind, PooledConnection, backend};
use sea_orm::{ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbErr, ExecResult};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::blocked_runs::BlockedRuns;
use super::{Answer, Call, Forward, GRACE_PERIOD, Job, group};
use crate::error;
use crate::record::write;
use crate::settings::{Session, Settings};
use crate::statements::MAX_BATCH_ROWS;

/// How long an idle connection stays checked out; it may be up to twice as long. This is long
/// enough to keep the connection between two calls of a single caller, and short enough not to
/// delay a migration noticeably.
const IDLE_TIMEOUT: Duration = Duration::from_millis(100);

/// The number of written rows after which SQLite checks the planner's statistics. It updates them
/// after a tenfold growth, which takes 0.1 s with 100,000 runs.
const ROWS_PER_STATISTICS_CHECK: u64 = 10_000;

/// Processes the jobs of the queue until it is closed and empty.
pub(super) async fn run(
    db: DatabaseConnection,
    lock_timeout: Option<Duration>,
    blocked: Arc<BlockedRuns>,
    mut queue: mpsc::Receiver<Job>,
) {
    let mut task = Task {
        acquire_timeout: backend::pool_size(&db).map_or(Duration::MAX, |(_, timeout)| timeout),
        lock_timeout,
        blocked,
        db,
        connection: None,
        idle_timer: idle_timer(),
        settings: Settings::default(),
        rows: 0,
    };
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() {
            if task.rows >= ROWS_PER_STATISTICS_CHECK {
                task.check_statistics().await;
            }
            if !task.wait(&mut queue, &mut waiting).await {
                break;
            }
        }
        while waiting.len() < MAX_BATCH_ROWS
            && let Ok(job) = queue.try_recv()
        {
            waiting.push(job);
        }
        // A caller that gave up may since have written the same row differently. Writing the
        // abandoned job now would undo that.
        waiting.retain(|job| !job.is_abandoned());
        if let Some(Job::Close) = waiting.first() {
            waiting.remove(0);
            queue.close();
        } else {
            task.process(&mut waiting).await;
        }
    }
    if task.rows > 0 {
        task.check_statistics().await;
    }
}

struct Task {
    db: DatabaseConnection,
    /// How long a call waits for a connection.
    acquire_timeout: Duration,
    /// How long a call waits while another process locks the whole database.
    lock_timeout: Option<Duration>,
    blocked: Arc<BlockedRuns>,
    connection: Option<PooledConnection>,
    /// One timer for all pauses: a new timer for each pause would cost a system call.
    idle_timer: Interval,
    settings: Settings,
    /// Rows written since the planner's statistics were checked, including failed attempts.
    rows: u64,
}

impl Task {
    /// Waits for a job; returns false if the queue is closed and empty.
    async fn wait(&mut self, queue: &mut mpsc::Receiver<Job>, waiting: &mut Vec<Job>) -> bool {
        let mut has_ticked = false;
        while self.connection.is_some() {
            tokio::select! {
                biased;
                job = queue.recv() => {
                    waiting.extend(job);
                    return !waiting.is_empty();
                }
                _ = self.idle_timer.tick() => {
                    if has_ticked {
                        self.connection = None;
                    }
                    has_ticked = true;
                }
            }
        }
        waiting.extend(queue.recv().await);
        !waiting.is_empty()
    }

    /// Processes the first waiting job, together with those that can share its statement.
    async fn process(&mut self, waiting: &mut Vec<Job>) {
        if let Some(Job::Write(_)) = waiting.first() {
            self.write(waiting).await;
        } else if !waiting.is_empty()
            && let Job::Forward(forward) = waiting.remove(0)
        {
            self.forward(forward, waiting).await;
        }
    }

    async fn write(&mut self, waiting: &mut Vec<Job>) {
        let mut calls = group::take_first(waiting);
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
        let mut locked_out = Vec::new();
        let mut lock = None;
        for (call, answer) in calls.into_iter().zip(answers.into_iter().flatten()) {
            match (self.lock_timeout, answer) {
                (Some(_), Some(Err(err @ Error::Busy { .. }))) => {
                    lock = error::driver_error(&err).cloned();
                    locked_out.push(call);
                }
                (_, answer) => {
                    if answer.is_none() {
                        self.blocked.remember(call.write.run_id());
                    }
                    call.answer(answer.transpose());
                }
            }
        }
        requeue(waiting, locked_out);
        if let (Some(lock), Some(timeout)) = (lock, self.lock_timeout) {
            fail_overdue(waiting, &lock, timeout);
        }
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
        match answer {
            Answer::Result(answer) => {
                let result = connection.execute_raw(statement).await;
                self.rows += result.as_ref().map_or(0, ExecResult::rows_affected);
                let _ = answer.send(result);
            }
            Answer::Rows(answer) => {
                let _ = answer.send(connection.query_all_raw(statement).await);
            }
        }
        self.put_back(connection, true);
    }

    async fn check_statistics(&mut self) {
        self.rows = 0;
        let Some(optimize) = backend::optimize(&self.db) else {
            return;
        };
        let Ok(connection) = self.connection(true, Instant::now()).await else {
            return;
        };
        if let Err(err) = connection.execute_raw(optimize).await {
            tracing::debug!(
                error = &err as &dyn std::error::Error,
                "could not update the planner's statistics"
            );
        }
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

/// Puts calls back at the front of the queue.
fn requeue(waiting: &mut Vec<Job>, calls: Vec<Call>) {
    waiting.splice(0..0, calls.into_iter().map(Job::Write));
}

/// Answers all jobs that have waited at least `time` with a failure that they would all get, so
/// that their waiting times don't add up.
fn fail_overdue(waiting: &mut Vec<Job>, err: &DbErr, time: Duration) {
    for job in waiting.extract_if(.., |job| job.has_waited(time)) {
        job.fail(err.clone());
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
    if !backend::has_schemas(connection) {
        return std::future::pending().await;
    }
    join_all(calls.iter_mut().map(|call| call.answer.closed())).await;
    sleep(GRACE_PERIOD).await;
}
