use std::time::Duration;

use runtrail_db::{Cost, Executor};
use sea_orm::{DbErr, Statement};
use tokio::sync::mpsc;

use super::{Call, Job};
use crate::statements::MAX_BATCH_ROWS;

/// The number of written rows after which SQLite checks the planner's statistics. It updates them
/// after a tenfold growth, which takes 0.1 s with 100,000 runs.
const ROWS_PER_STATISTICS_CHECK: u64 = 10_000;

/// How the jobs of the queue reach the database.
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
    if let Err(err) = connection.rows(optimize, Cost::Long).await {
        tracing::debug!(
            error = &err as &dyn std::error::Error,
            "could not update the planner's statistics"
        );
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
