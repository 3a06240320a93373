use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Result, RunQuery, RunSummary, Storage};

/// Lists the descendants of a run, dry runs included, and adds up what they used.
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

    /// Adds up each of these runs with its descendants, sorted by run id. Unknown runs are left
    /// out.
    ///
    /// Runs that don't match `query` are treated as if they weren't stored, and so are the runs
    /// that are only reached through them. Pass [`RunQuery::include_dry_run`] to count dry runs.
    ///
    /// A single query reads at most `max_runs` runs of each tree, those nearest to its top. If a
    /// tree has that many, its totals are [cut](SubtreeTotals::is_cut).
    ///
    /// ```
    /// # use runtrail_audit::{Result, RunQuery, RunSummary, RunTree};
    /// # async fn example(store: &impl RunTree, page: &[RunSummary]) -> Result<()> {
    /// let ids: Vec<_> = page.iter().map(|run| run.id.clone()).collect();
    /// let all = RunQuery::new().include_dry_run();
    /// for totals in store.subtree_totals(&ids, &all, 1_000).await? {
    ///     let sign = if totals.is_cut { "at least " } else { "" };
    ///     println!("{}: {sign}{} runs", totals.run_id, totals.runs);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid run id, more than
    /// [`PageRequest::MAX_LIMIT`](crate::PageRequest::MAX_LIMIT) ids, and a filter value that no
    /// run can have.
    async fn subtree_totals(
        &self,
        run_ids: &[String],
        query: &RunQuery,
        max_runs: u64,
    ) -> Result<Vec<SubtreeTotals>>;
}

const _: fn(&dyn RunTree) = |_| {};

/// What a run and its descendants used, in total.
///
/// The totals of tokens are those that the runs reported when they finished; calls and costs are
/// those of their events. Sums above 2^53 are approximate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubtreeTotals {
    /// The run at the top.
    pub run_id: String,
    /// The number of runs, including the one at the top.
    pub runs: u64,
    /// The number of input tokens.
    pub total_input_tokens: u64,
    /// The number of output tokens.
    pub total_output_tokens: u64,
    /// The number of tokens spent on reasoning.
    pub total_thinking_tokens: u64,
    /// The number of events with a usage.
    pub calls: u64,
    /// The reported cost in millionths of a US dollar.
    pub cost_micros: u64,
    /// The number of events with a usage but without a reported cost.
    pub calls_without_cost: u64,
    /// Whether as many runs as allowed were read. The tree may then have more, so each total is a
    /// lower bound.
    pub is_cut: bool,
}

impl SubtreeTotals {
    /// Returns the sum of input, output and thinking tokens; saturates at [`u64::MAX`].
    pub fn total_tokens(&self) -> u64 {
        self.total_input_tokens
            .saturating_add(self.total_output_tokens)
            .saturating_add(self.total_thinking_tokens)
    }
}
