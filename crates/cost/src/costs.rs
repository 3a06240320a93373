use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use runtrail_audit::{
    Buckets, CallStatistics, Dimension, ModelUsage, Result, Statistics, StatisticsQuery,
    StatisticsRow,
};
use serde::{Deserialize, Serialize};

use crate::{PricedCalls, Prices};

/// What model calls cost, as reported and as computed.
///
/// Both cover all calls: don't add them up. Sums end at [`u64::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cost {
    /// The number of events with a usage.
    pub calls: u64,
    /// All input tokens, including those read from and written to a cache.
    pub input_tokens: u64,
    /// All output tokens, including those spent on reasoning.
    pub output_tokens: u64,
    /// The cost that the senders reported, in millionths of a US dollar.
    pub reported_micros: u64,
    /// The number of calls whose cost nobody reported.
    pub unreported_calls: u64,
    /// The cost by the price list, in millionths of a US dollar.
    pub computed_micros: u64,
    /// The number of calls without a known price. They are not in the computed cost.
    pub unpriced_calls: u64,
}

/// Computes what the calls of a query cost, with one statement; see
/// [`Statistics::call_statistics`].
///
/// Each call has the price of its time. Costs are rounded to whole millionths of a dollar for each
/// model, tier and period of prices.
///
/// ```
/// use runtrail_audit::{Dimension, Result, RunQuery, Statistics, StatisticsQuery};
/// use runtrail_cost::{Prices, costs};
///
/// async fn print(store: &impl Statistics, prices: &dyn Prices) -> Result<()> {
///     let query = StatisticsQuery::of(RunQuery::new()).group_by([Dimension::Model]);
///     for row in costs(store, prices, &query).await? {
///         let model = row.group[0].as_deref().unwrap_or("unknown model");
///         println!("{model}: {} millionths of a dollar", row.values.computed_micros);
///     }
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// [`InvalidInput`](runtrail_audit::Error::InvalidInput) for a query with
/// [`input_tiers`](StatisticsQuery::input_tiers), which the prices set, and as for
/// [`call_statistics`](Statistics::call_statistics); also if the buckets of the query and the
/// changes of the prices are more than [`Buckets::MAX`] together.
pub async fn costs(
    store: &(impl Statistics + ?Sized),
    prices: &(impl Prices + ?Sized),
    query: &StatisticsQuery,
) -> Result<Vec<StatisticsRow<Cost>>> {
    if !query.input_tiers.is_empty() {
        let reason = "are set by the prices";
        return Err(runtrail_audit::Error::invalid("input_tiers", reason));
    }
    let asked: &[DateTime<Utc>] = match &query.buckets {
        Some(buckets) => buckets.starts(),
        None => &[],
    };
    let mut by_price = query.clone();
    by_price
        .group_by
        .extend([Dimension::Provider, Dimension::Model]);
    by_price.input_tiers = prices.input_tiers();
    let changes = prices.changes();
    by_price.buckets = match asked.is_empty() && changes.is_empty() {
        true => None,
        false => Some(Buckets::starting_at(
            changes.into_iter().chain(asked.iter().copied()),
        )?),
    };

    let mut sums: BTreeMap<_, Cost> = BTreeMap::new();
    for row in store.call_statistics(&by_price).await? {
        let StatisticsRow {
            mut group,
            bucket,
            input_tier,
            values,
            ..
        } = row;
        let names = group.split_off(query.group_by.len());
        let [provider, model] = [0, 1].map(|index| names.get(index).and_then(Option::as_deref));
        let at = bucket.unwrap_or(DateTime::<Utc>::MIN_UTC);
        let calls = PricedCalls::new(provider, model, at, input_tier, values);
        let asked_bucket = bucket.and_then(|bucket| {
            let begun = asked.partition_point(|start| *start <= bucket);
            asked[..begun].last().copied()
        });
        let sum = sums.entry((group, asked_bucket)).or_default();
        sum.add(&values, prices.cost(&calls));
    }
    let row = |((group, bucket), cost)| {
        let mut row = StatisticsRow::new(group, cost);
        row.bucket = bucket;
        row
    };
    Ok(sums.into_iter().map(row).collect())
}

impl Cost {
    /// Computes what the calls of one model in a run cost. `at` is when the run started.
    ///
    /// It takes the price of that time for an average call: prices that change while the run works,
    /// and tiers that only some of its calls reach, make it inexact. [`costs`] is exact.
    pub fn of_usage(
        usage: &ModelUsage,
        at: DateTime<Utc>,
        prices: &(impl Prices + ?Sized),
    ) -> Self {
        let mut totals = CallStatistics::default();
        totals.calls = usage.calls;
        totals.input_tokens = usage.input_tokens;
        totals.cache_read_tokens = usage.cache_read_tokens;
        totals.cache_write_tokens = usage.cache_write_tokens;
        totals.output_tokens = usage.output_tokens;
        totals.thinking_tokens = usage.thinking_tokens;
        totals.cost_micros = usage.cost_micros;
        totals.calls_without_cost = usage.calls_without_cost;
        let average = usage.input_tokens / usage.calls.max(1);
        let tiers = prices.input_tiers().into_iter();
        let tier = tiers.filter(|tier| *tier <= average).max();
        let (provider, model) = (usage.provider.as_deref(), usage.model.as_deref());
        let calls = PricedCalls::new(provider, model, at, tier, totals);
        let mut cost = Self::default();
        cost.add(&totals, prices.cost(&calls));
        cost
    }

    /// Returns the reported cost if it covers all calls, and else the computed one if it does;
    /// otherwise `None`.
    pub fn known_micros(&self) -> Option<u64> {
        match (self.unreported_calls, self.unpriced_calls) {
            (0, _) => Some(self.reported_micros),
            (_, 0) => Some(self.computed_micros),
            _ => None,
        }
    }

    fn add(&mut self, calls: &CallStatistics, computed: Option<u64>) {
        let add = |sum: &mut u64, number: u64| *sum = sum.saturating_add(number);
        add(&mut self.calls, calls.calls);
        add(&mut self.input_tokens, calls.input_tokens);
        add(&mut self.output_tokens, calls.output_tokens);
        add(&mut self.reported_micros, calls.cost_micros);
        add(&mut self.unreported_calls, calls.calls_without_cost);
        match computed {
            Some(micros) => add(&mut self.computed_micros, micros),
            None => add(&mut self.unpriced_calls, calls.calls),
        }
    }
}
