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
    async fn purge_in_batches(
        &self,
        cutoff: DateTime<Utc>,
        on_batch: &(dyn Fn(PurgeBatch) + Sync),
    ) -> Result<PurgeSummary>;
}

/// What has become of the runs of one batch of a purge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeBatch {
    /// Runs that were deleted with their events.
    pub runs: u64,
    /// Runs that can't be deleted and stay, with all their events.
    pub skipped: Vec<SkippedRun>,
}

/// A run that a purge can't delete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedRun {
    /// The id of the run; `?` where it can't be read.
    pub run_id: String,
    /// Why it stays: the column that can't be read, or the words of the database that refused to delete it, as it does
    /// for a run to which another table refers by a foreign key.
    pub reason: String,
}

impl SkippedRun {
    /// A run that stays for this reason.
    pub fn new(run_id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            run_id: run_id.into(),
            reason: reason.into(),
        }
    }
}

/// What a purge has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeSummary {
    /// Runs that were deleted with their events.
    pub runs: u64,
    /// Runs that were due and can't be deleted.
    pub skipped: u64,
}

/// How much a purge would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeSize {
    /// Runs that finished before the cutoff.
    pub runs: u64,
    /// The events of those runs.
    pub events: u64,
}

const _: fn(&dyn Retention) = |_| {};
