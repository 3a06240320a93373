use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{Result, Storage};

/// Purging with a preview and progress reports.
#[async_trait]
pub trait Retention: Storage {
    /// Counts what [`purge_older_than`](Storage::purge_older_than) would delete now: the runs that
    /// finished strictly before `cutoff`, and their events.
    async fn measure_purge(&self, cutoff: DateTime<Utc>) -> Result<PurgeSize>;

    /// Purges like [`purge_older_than`](Storage::purge_older_than), and calls `on_batch` after each
    /// batch of at most 100 runs. If no run is due, `on_batch` is never called.
    ///
    /// # Errors
    ///
    /// The database's own failures. In a transaction of the caller (`AuditStore::on`), a run that
    /// the database refuses to delete is an error as well, since PostgreSQL aborts the transaction.
    async fn purge_in_batches(
        &self,
        cutoff: DateTime<Utc>,
        on_batch: &(dyn Fn(PurgeBatch) + Sync),
    ) -> Result<PurgeSummary>;
}

/// The result of one batch of a purge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeBatch {
    /// The number of runs that were deleted with their events.
    pub runs: u64,
    /// Runs that couldn't be deleted. They remain stored with all their events.
    pub skipped: Vec<SkippedRun>,
}

/// A run that a purge couldn't delete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedRun {
    /// The id of the run; `?` if it can't be read.
    pub run_id: String,
    /// Why it wasn't deleted: a column that can't be read, or the database's message when it
    /// refused the deletion, for example because of a foreign key in another table.
    pub reason: String,
}

impl SkippedRun {
    /// Creates a skipped run with its reason.
    pub fn new(run_id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            run_id: run_id.into(),
            reason: reason.into(),
        }
    }
}

/// The result of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeSummary {
    /// The number of runs that were deleted with their events.
    pub runs: u64,
    /// The number of runs that were due but couldn't be deleted.
    pub skipped: u64,
}

/// How much a purge would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeSize {
    /// The number of runs that finished before the cutoff.
    pub runs: u64,
    /// The number of events of those runs.
    pub events: u64,
}

const _: fn(&dyn Retention) = |_| {};
