use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use runtrail_audit::Error;
use runtrail_db::{DriverErrorKind, PooledConnection, backend};
use sea_orm::{ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbErr, ExecResult};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::blocked::Blocked;
use super::{Answer, Call, Forward, GIVEN_UP, Job, group};
use crate::error;
use crate::record::write;
use crate::settings::{Session, Settings};
use crate::statements::MOST_AT_ONCE;

/// How long the connection is connection with nothing to do, or up to twice as long: enough not to be given back between two
/// calls of a single caller, and so short that a migration hardly waits for it.
const IDLE: Duration = Duration::from_millis(100);

/// After so many rows it is asked whether the planner's statistics are still good. If they aren't, which is so after a
/// tenfold growth, it takes a tenth of a second with 100,000 runs.
const ROWS_BETWEEN_LOOKS: u64 = 10_000;

/// Does what it is asked for, until nobody can ask any more.
pub(super) async fn run(
    db: DatabaseConnection,
    lock_timeout: Option<Duration>,
    blocked: Arc<Blocked>,
    mut queue: mpsc::Receiver<Job>,
) {
    let mut task = Task {
        acquire_timeout: backend::pool_size(&db).map_or(Duration::MAX, |(_, timeout)| timeout),
        lock_timeout,
        blocked,
        db,
        connection: None,
        rest: rests(),
        settings: Settings::default(),
        rows: 0,
    };
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() {
            if task.rows >= ROWS_BETWEEN_LOOKS {
                task.look_at_statistics().await;
            }
            if !task.wait(&mut queue, &mut waiting).await {
                break;
            }
        }
        while waiting.len() < MOST_AT_ONCE
            && let Ok(job) = queue.try_recv()
        {
            waiting.push(job);
        }
        // Whoever has given up may have said the same in another way since, and that must not be undone.
        waiting.retain(|job| !job.is_given_up());
        if let Some(Job::Close) = waiting.first() {
            waiting.remove(0);
            queue.close();
        } else {
            task.step(&mut waiting).await;
        }
    }
    if task.rows > 0 {
        task.look_at_statistics().await;
    }
}

struct Task {
    db: DatabaseConnection,
    /// How long a call waits for a connection.
    acquire_timeout: Duration,
    /// How long a call waits while another process locks the whole database.
    lock_timeout: Option<Duration>,
    blocked: Arc<Blocked>,
    connection: Option<PooledConnection>,
    /// One clock for all pauses: to set it for each would cost a system call.
    rest: Interval,
    settings: Settings,
    /// Written, or meant to be, since the planner's statistics were looked at.
    rows: u64,
}

impl Task {
    /// Waits for something to do; false if there will never be anything.
    async fn wait(&mut self, queue: &mut mpsc::Receiver<Job>, waiting: &mut Vec<Job>) -> bool {
        let mut has_rested = false;
        while self.connection.is_some() {
            tokio::select! {
                biased;
                job = queue.recv() => {
                    waiting.extend(job);
                    return !waiting.is_empty();
                }
                _ = self.rest.tick() => {
                    if has_rested {
                        self.connection = None;
                    }
                    has_rested = true;
                }
            }
        }
        waiting.extend(queue.recv().await);
        !waiting.is_empty()
    }

    /// Does the first of what is waiting, with what can be done together with it.
    async fn step(&mut self, waiting: &mut Vec<Job>) {
        if let Some(Job::Write(_)) = waiting.first() {
            self.write(waiting).await;
        } else if !waiting.is_empty()
            && let Job::Forward(forward) = waiting.remove(0)
        {
            self.forward(forward, waiting).await;
        }
    }

    async fn write(&mut self, waiting: &mut Vec<Job>) {
        let mut calls = group::take(waiting);
        let Some(Call { place, since, .. }) = calls.first() else {
            return;
        };
        let (place, since) = (place.clone(), *since);
        let connection = match self.connection(place.has_prepared_statements, since).await {
            Ok(connection) => connection,
            Err(err) if DriverErrorKind::of(&err) == DriverErrorKind::NoConnection => {
                wait_on(waiting, calls);
                return fail_together(waiting, &err, self.acquire_timeout);
            }
            Err(err) => {
                for call in calls {
                    call.answer(Err(error::database(err.clone())));
                }
                return;
            }
        };
        self.settings.schema = place.schema;
        let writes: Vec<_> = calls.iter().map(|call| Arc::clone(&call.write)).collect();
        let answers = {
            let session = Session::shared(&connection, &self.settings);
            let written = write::together(&session, &writes);
            tokio::select! {
                biased;
                answers = written => Some(answers),
                () = given_up(&connection, &mut calls) => None,
            }
        };
        self.keep(connection, answers.is_some());
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
        wait_on(waiting, locked_out);
        if let (Some(lock), Some(timeout)) = (lock, self.lock_timeout) {
            fail_together(waiting, &lock, timeout);
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
                fail_together(waiting, &err, self.acquire_timeout);
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
        self.keep(connection, true);
    }

    async fn look_at_statistics(&mut self) {
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
                "the planner's statistics stay as they are"
            );
        }
        self.keep(connection, true);
    }

    /// The connection, for a call that has waited since `since`.
    async fn connection(
        &mut self,
        has_prepared_statements: bool,
        since: Instant,
    ) -> Result<PooledConnection, DbErr> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                // A call may have waited for the lock of a file. That connection is never checked out for long.
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

    fn keep(&mut self, connection: PooledConnection, is_answered: bool) {
        if !is_answered || connection.has_failed() {
            connection.discard();
        } else if !connection.is_old() {
            self.connection = Some(connection);
        }
    }
}

/// Puts calls back at the front of the queue.
fn wait_on(waiting: &mut Vec<Job>, calls: Vec<Call>) {
    waiting.splice(0..0, calls.into_iter().map(Job::Write));
}

/// After a failure that every waiting call would also get: answers the calls that have waited at least `time` with it,
/// so that waiting times don't add up.
fn fail_together(waiting: &mut Vec<Job>, err: &DbErr, time: Duration) {
    for job in waiting.extract_if(.., |job| job.has_waited(time)) {
        job.fail(err.clone());
    }
}

fn rests() -> Interval {
    let mut rests = interval(IDLE);
    // Those that were missed while there was no connection to give back mean nothing.
    rests.set_missed_tick_behavior(MissedTickBehavior::Delay);
    rests
}

/// Waits until nobody waits for any of these calls, and a little longer.
///
/// A PostgreSQL server may never answer. SQLite does, and what it has begun can't be stopped.
async fn given_up(connection: &PooledConnection, calls: &mut [Call]) {
    if !backend::has_schemas(connection) {
        return std::future::pending().await;
    }
    join_all(calls.iter_mut().map(|call| call.answer.closed())).await;
    sleep(GIVEN_UP).await;
}
