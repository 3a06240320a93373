use chrono::{DateTime, Utc};
use runtrail_audit::CallStatistics;

/// A list of prices.
///
/// [`costs`](crate::costs) adds up calls before it asks for their price. The price of a token must
/// therefore depend only on the provider, the model, the tier of the call and the period in which
/// it was made.
pub trait Prices: Send + Sync {
    /// Returns the cost of calls of one model, in millionths of a US dollar; `None` if their price
    /// is unknown.
    fn cost(&self, calls: &PricedCalls<'_>) -> Option<u64>;

    /// Returns the numbers of input tokens at which another price begins: a call with at least this
    /// many has it.
    fn input_tiers(&self) -> Vec<u64>;

    /// Returns the times at which any price changes.
    fn changes(&self) -> Vec<DateTime<Utc>>;
}

/// Calls of one model that have the same price per token.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PricedCalls<'a> {
    /// The provider, if the calls name it.
    pub provider: Option<&'a str>,
    /// The model, if the calls name it.
    pub model: Option<&'a str>,
    /// Not after any of the calls; no price changes between this time and the last of them.
    pub at: DateTime<Utc>,
    /// The tier in which all these calls are: one of [`Prices::input_tiers`], or `None` below them.
    pub input_tier: Option<u64>,
    /// The calls and their tokens.
    pub totals: CallStatistics,
}

impl<'a> PricedCalls<'a> {
    /// Combines calls with what their price depends on.
    pub fn new(
        provider: Option<&'a str>,
        model: Option<&'a str>,
        at: DateTime<Utc>,
        input_tier: Option<u64>,
        totals: CallStatistics,
    ) -> Self {
        Self {
            provider,
            model,
            at,
            input_tier,
            totals,
        }
    }

    /// Returns the input tokens that were neither read from a cache nor written to one.
    pub(crate) fn uncached_tokens(&self) -> u64 {
        let cached = self.cached_tokens();
        self.totals.input_tokens.saturating_sub(cached)
    }

    pub(crate) fn cached_tokens(&self) -> u64 {
        let totals = &self.totals;
        totals
            .cache_read_tokens
            .saturating_add(totals.cache_write_tokens)
    }
}
