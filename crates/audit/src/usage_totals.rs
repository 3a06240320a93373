use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Result, Storage};

/// Totals of the [`Usage`](crate::Usage) of events.
#[async_trait]
pub trait UsageTotals: Storage {
    /// Adds up the usage of the events of these runs. Returns one total per run, provider and
    /// model, sorted in that order; missing providers and models sort first. Runs without any
    /// usage, and unknown runs, are left out.
    ///
    /// ```
    /// use runtrail_audit::{Result, UsageTotals};
    ///
    /// async fn print_usage(store: &impl UsageTotals, run_id: &str) -> Result<()> {
    ///     for usage in store.usage_by_model(&[run_id.to_owned()]).await? {
    ///         let model = usage.model.as_deref().unwrap_or("unknown model");
    ///         println!("{model}: {} in, {} out", usage.input_tokens, usage.output_tokens);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid id.
    async fn usage_by_model(&self, run_ids: &[String]) -> Result<Vec<ModelUsage>>;
}

const _: fn(&dyn UsageTotals) = |_| {};

/// What the calls of a model in a run consumed, in total.
///
/// A number that an event doesn't report counts as 0. Sums above 2^53 are approximate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelUsage {
    /// The run.
    pub run_id: String,
    /// The provider that ran the model, if the events name it.
    pub provider: Option<String>,
    /// The model, if the events name it.
    pub model: Option<String>,
    /// The number of events with a usage.
    pub calls: u64,
    /// All input tokens, including those read from and written to a cache.
    pub input_tokens: u64,
    /// The input tokens that were read from a cache.
    pub cache_read_tokens: u64,
    /// The input tokens that were written to a cache.
    pub cache_write_tokens: u64,
    /// All output tokens, including those spent on reasoning.
    pub output_tokens: u64,
    /// The output tokens that were spent on reasoning.
    pub thinking_tokens: u64,
    /// The reported cost in millionths of a US dollar.
    pub cost_micros: u64,
    /// The number of events with a usage but without a reported cost.
    pub calls_without_cost: u64,
}
