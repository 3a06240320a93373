//! What the model calls of runs used and cost.

use std::collections::HashMap;

use runtrail::cost::{Cost, Prices};
use runtrail::{AuditStore, ModelUsage, RunSummary, UsageTotals};

use crate::failure::Result;

/// The sums over the models of a run.
#[derive(Default)]
pub(crate) struct RunUsage {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) thinking_tokens: u64,
    /// The reported cost of each model, or else the computed one.
    pub(crate) cost_micros: u64,
    /// The calls that are not in the cost.
    pub(crate) calls_with_unknown_cost: u64,
}

impl RunUsage {
    /// Returns the usage of each run that has any.
    pub(crate) async fn of_each(
        runs: &[RunSummary],
        store: &AuditStore,
        prices: &dyn Prices,
    ) -> Result<HashMap<String, Self>> {
        let ids: Vec<_> = runs.iter().map(|run| run.id.clone()).collect();
        let starts = runs.iter().map(|run| (run.id.as_str(), run.started_at));
        let starts: HashMap<_, _> = starts.collect();
        let mut by_run: HashMap<String, Self> = HashMap::new();
        for usage in store.usage_by_model(&ids).await? {
            if let Some(started_at) = starts.get(usage.run_id.as_str()) {
                let cost = Cost::of_usage(&usage, *started_at, prices);
                let sum = by_run.entry(usage.run_id.clone()).or_default();
                sum.add(&usage, &cost);
            }
        }
        Ok(by_run)
    }

    fn add(&mut self, usage: &ModelUsage, cost: &Cost) {
        let add = |sum: &mut u64, number: u64| *sum = sum.saturating_add(number);
        add(&mut self.input_tokens, usage.input_tokens);
        add(&mut self.output_tokens, usage.output_tokens);
        add(&mut self.thinking_tokens, usage.thinking_tokens);
        match cost.known_micros() {
            Some(micros) => add(&mut self.cost_micros, micros),
            None => {
                add(&mut self.cost_micros, cost.reported_micros);
                add(&mut self.calls_with_unknown_cost, cost.unreported_calls);
            }
        }
    }

    pub(crate) fn has_tokens(&self) -> bool {
        self.input_tokens > 0 || self.output_tokens > 0
    }
}

/// Returns the tokens of a run's model calls, or else the totals that it reported.
pub(crate) fn tokens(run: &RunSummary, usage: Option<&RunUsage>) -> u64 {
    match usage.filter(|usage| usage.has_tokens()) {
        Some(usage) => usage.input_tokens.saturating_add(usage.output_tokens),
        None => run.total_tokens(),
    }
}
