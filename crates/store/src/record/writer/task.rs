use std::time::Duration;

use runtrail_audit::{Error, Result};
use runtrail_db::{Cost, Executor, Plan};
use sea_orm::{DbErr, Statement};
use tokio::sync::mpsc;

use super::{Call, Job};
use crate::error;
use crate::statements::MAX_BATCH_ROWS;

/// The number of written rows after which SQLite checks the planner's statistics. It updates them
/// after a tenfold growth, which takes 0.1 s with 100,000 runs.
const ROWS_PER_STATISTICS_CHECK: u64 = 10_000;

/// Executes the jobs of the queue.
pub(super) trait Work: Send {
    /// Waits for a job; returns `None` if the queue is closed and empty.
    fn wait(&mut self, queue: &mut mpsc::Receiver<Job>)
    -> impl Future<Output = Option<Job>> + Send;

    /// Processes the first waiting job, and possibly others with it.
    fn process(&mut self, waiting: &mut Vec<Job>) -> impl Future<Output = ()> + Send;

    /// Lets SQLite check the planner's statistics.
    fn check_statistics(&mut self) -> impl Future<Output = ()> + Send;

    /// The number of rows written since the planner's statistics were checked, including failed
    /// attempts.
    fn rows(&self) -> u64;
}

/// Processes the jobs of the queue until it is closed and empty.
pub(super) async fn run(mut task: impl Work, mut queue: mpsc::Receiver<Job>) {
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() {
            if task.rows() >= ROWS_PER_STATISTICS_CHECK {
                task.check_statistics().await;
            }
            match task.wait(&mut queue).await {
                Some(job) => waiting.push(job),
                None => break,
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
    if task.rows() > 0 {
        task.check_statistics().await;
    }
}

pub(super) async fn optimize(connection: &impl Executor, optimize: Statement) {
    let optimized = connection.rows(optimize, Cost::Long, Plan::ByValues);
    if let Err(err) = optimized.await {
        tracing::debug!(
            error = &err as &dyn std::error::Error,
            "could not update the planner's statistics"
        );
    }
}

/// Answers calls that were written; `None` stands for an unknown result. With a `lock_timeout`,
/// those that found the whole database locked return to the front of the queue until they have
/// waited that long.
pub(super) fn settle(
    waiting: &mut Vec<Job>,
    calls: Vec<Call>,
    answers: impl IntoIterator<Item = Option<Result<()>>>,
    lock_timeout: Option<Duration>,
) {
    let mut locked_out = Vec::new();
    let mut last_lock = None;
    for (call, answer) in calls.into_iter().zip(answers) {
        let lock = match (&answer, lock_timeout) {
            (Some(Err(err)), Some(_)) => lock_of(err),
            _ => None,
        };
        match lock {
            Some(lock) => {
                last_lock = Some(lock.clone());
                locked_out.push(call);
            }
            None => call.answer(answer.transpose()),
        }
    }
    requeue(waiting, locked_out);
    if let (Some(lock), Some(timeout)) = (last_lock, lock_timeout) {
        fail_overdue(waiting, &lock, timeout);
    }
}

/// Returns the driver's error if the database was locked. The store itself reports other conflicts
/// as [`Error::Busy`] too.
pub(super) fn lock_of(err: &Error) -> Option<&DbErr> {
    match err {
        Error::Busy { .. } => error::driver_error(err),
        _ => None,
    }
}

/// Puts calls back at the front of the queue.
pub(super) fn requeue(waiting: &mut Vec<Job>, calls: Vec<Call>) {
    waiting.splice(0..0, calls.into_iter().map(Job::Write));
}

/// Answers all jobs that have waited at least `time` with a failure that they would all get, so
/// that their waiting times don't add up.
pub(super) fn fail_overdue(waiting: &mut Vec<Job>, err: &DbErr, time: Duration) {
    for job in waiting.extract_if(.., |job| job.has_waited(time)) {
        job.fail(err.clone());
    }
}
