use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{Result, Storage};

/// What surrounds a purge: how much would go, and how far it has come.
#[async_trait]
pub trait Retention: Storage {
    /// What [`purge_older_than`](Storage::purge_older_than) would delete now: the runs that finished strictly
    /// before `cutoff`, and their events.
    async fn measure_purge(&self, cutoff: DateTime<Utc>) -> Result<PurgeSize>;

    /// [`purge_older_than`](Storage::purge_older_than), which calls `on_batch` after each batch with the number of
    /// its runs, at most 100; never, if there is nothing to delete.
    async fn purge_in_batches(
        &self,
        cutoff: DateTime<Utc>,
        on_batch: &(dyn Fn(u64) + Sync),
    ) -> Result<u64>;
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
