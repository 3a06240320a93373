use async_trait::async_trait;

use crate::{Result, RunSummary, Storage};

/// Finding runs by parts of their ids, and the relatives of runs without their long texts.
#[async_trait]
pub trait RunLookup: Storage {
    /// At most `limit` ids that begin with `prefix` and end with `suffix`, in byte order. Each part may be empty, and
    /// the two don't overlap.
    ///
    /// The query reads all ids with this prefix from the primary key.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for a part that no id can contain.
    async fn find_run_ids(&self, prefix: &str, suffix: &str, limit: u64) -> Result<Vec<String>>;

    /// The ids directly before and after each of these, in byte order. A prefix of an id is unambiguous if neither
    /// neighbour shares it.
    async fn neighbours_of_run_ids(&self, ids: &[String]) -> Result<Vec<String>>;

    /// The parent, its parent, and so on, without their texts: the result of
    /// [`walk_parent_chain`](Storage::walk_parent_chain) without the run itself.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an id that can't be.
    async fn list_ancestors(&self, run_id: &str) -> Result<Vec<RunSummary>>;

    /// The number of direct children of a run, dry runs included.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an id that can't be.
    async fn count_children(&self, run_id: &str) -> Result<u64>;
}

const _: fn(&dyn RunLookup) = |_| {};
