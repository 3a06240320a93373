use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{Result, Storage};

/// What surrounds a purge: how much would go, and how far it has come.
#[async_trait]
pub trait Retention: Storage {
    /// What [`purge_older_than`](Storage::purge_older_than) would delete now: the runs that finished strictly
    /// before `cutoff`, and their events.
    async fn measure_purge(&self, cutoff: DateTime<Utc>) -> Result<PurgeSize>;

    /// [`purge_older_than`](Storage::purge_older_than), which calls `on_batch` after each batch of at most 100 runs;
    /// never, if no run is due.
    ///
    /// # Errors
    ///
    /// The database's own failures. In a transaction of the caller's (`AuditStore::on`) a run that can't be deleted is
    /// one of them, since PostgreSQL has ended the transaction by then.
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
    /// Runs that were deleted with their events.
    pub runs: u64,
    /// Runs that couldn't be deleted; they stay, with all their events.
    pub skipped: Vec<SkippedRun>,
}

/// A run that a purge can't delete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedRun {
    /// The id of the run; `?` if it can't be read.
    pub run_id: String,
    /// Why it stays: the column that can't be read, or the database's message when it refused the deletion, for example
    /// because of another table's foreign key.
    pub reason: String,
}

impl SkippedRun {
    /// A skipped run with its reason.
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
    /// Runs that were deleted with their events.
    pub runs: u64,
    /// Runs that were due and couldn't be deleted.
    pub skipped: u64,
}

/// How much a purge would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeSize {
    /// Runs that finished before the cutoff.
    pub runs: u64,
    /// The events of those runs.
    pub events: u64,
}

const _: fn(&dyn Retention) = |_| {};
