use async_trait::async_trait;

use crate::{Result, RunSummary, Storage};

/// Finding runs by a part of their ids, and what is near them, without their long texts.
#[async_trait]
pub trait RunLookup: Storage {
    /// The ids that begin with `prefix` and end with `suffix`, in the order of their bytes: at most `limit`. Each part
    /// may be empty, and the two don't overlap.
    ///
    /// Reads the ids with this prefix from the primary key.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for a part that no id can have.
    async fn find_run_ids(&self, prefix: &str, suffix: &str, limit: u64) -> Result<Vec<String>>;

    /// For each of these ids the ones beside it, in the order of their bytes: an id is unambiguous as far as it differs
    /// from both.
    async fn neighbours_of_run_ids(&self, ids: &[String]) -> Result<Vec<String>>;

    /// The parent, its parent, and so on: those of [`walk_parent_chain`](Storage::walk_parent_chain) after the run
    /// itself, without their texts.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an id that can't be.
    async fn list_ancestors(&self, run_id: &str) -> Result<Vec<RunSummary>>;

    /// How many runs a run has spawned itself; dry runs included.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an id that can't be.
    async fn count_children(&self, run_id: &str) -> Result<u64>;
}

const _: fn(&dyn RunLookup) = |_| {};
