use async_trait::async_trait;

use crate::{Result, RunSummary, Storage};

/// What a run has spawned, and that in turn.
#[async_trait]
pub trait RunTree: Storage {
    /// The run and every run below it, each once, newest first; dry runs included.
    ///
    /// One query, however deep it goes, and safe on cycles. Empty for an unknown run.
    async fn list_subtree(&self, run_id: &str) -> Result<Vec<RunSummary>>;
}

const _: fn(&dyn RunTree) = |_| {};
