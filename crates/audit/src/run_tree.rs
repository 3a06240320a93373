use async_trait::async_trait;

use crate::{Result, RunSummary, Storage};

/// What a run has spawned, and that in turn; dry runs included.
#[async_trait]
pub trait RunTree: Storage {
    /// The runs that a run spawned itself, newest first: those of
    /// [`list_children_by_parent`](Storage::list_children_by_parent), without their texts.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an id that can't be.
    async fn list_children(&self, run_id: &str) -> Result<Vec<RunSummary>>;

    /// The run and every run below it, each once, newest first; empty for an unknown run.
    ///
    /// One query, however deep it goes, and safe on cycles.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an id that can't be.
    async fn list_subtree(&self, run_id: &str) -> Result<Vec<RunSummary>>;
}

const _: fn(&dyn RunTree) = |_| {};
