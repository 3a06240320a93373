use async_trait::async_trait;

use crate::{Result, RunSummary, Storage};

/// Lists the descendants of a run, dry runs included.
#[async_trait]
pub trait RunTree: Storage {
    /// Lists the direct children of a run, newest first, without inputs, output and error; see
    /// [`list_children_by_parent`](Storage::list_children_by_parent) for complete runs.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid run id.
    async fn list_children(&self, run_id: &str) -> Result<Vec<RunSummary>>;

    /// Lists the run and all its descendants, each once, newest first; empty for an unknown run.
    ///
    /// A single query reads the tree, whatever its depth, even if it has cycles.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid run id.
    async fn list_subtree(&self, run_id: &str) -> Result<Vec<RunSummary>>;
}

const _: fn(&dyn RunTree) = |_| {};
