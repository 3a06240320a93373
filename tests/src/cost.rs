//! Costs, compared with the price of each call by itself.

use chrono::{DateTime, TimeDelta, Utc};
use runtrail_audit::{
    BucketWidth, Buckets, BulkStorage, Dimension, Error, RunQuery, SkillRunLog, StatisticsQuery,
    Storage, Usage,
};
use runtrail_cost::{Cost, PriceFile, costs};

use crate::fixture::*;

const PRICES: &str = r#"{"prices": [
    {"model": "large", "until": "2026-01-03", "input": 3, "cache_read": 0.3, "output": 15,
     "above": [{"input_tokens": 1000, "input": 6, "output": 30}]},
    {"model": "large", "from": "2026-01-03", "input": 2, "output": 10},
    {"provider": "here", "model": "sm*", "input": 0.5, "output": 1}
]}"#;

fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// The calls of one run, an hour apart.
fn calls(run_id: &str) -> Vec<SkillRunLog> {
    let usage = |number: u64| {
        let (provider, model) = match number % 4 {
            0 | 1 => (Some("any"), "large"),
            2 => (Some("here"), "small"),
            _ => (None, "unknown"),
        };
        let input = 100 + number * 37 % 2_000;
        let mut usage = Usage::new()
            .model(model)
            .input_tokens(input)
            .output_tokens(number * 11);
        usage.provider = provider.map(str::to_owned);
        match number % 5 {
            0 => usage.cache_read_tokens(input / 2),
            1 => usage.cost_micros(number),
            _ => usage,
        }
    };
    let call = |number: u64| {
        let at = start() + TimeDelta::hours(i64::try_from(number).unwrap());
        event(run_id, number).usage(usage(number)).created_at(at)
    };
    (0..100).map(call).collect()
}

/// Millionths of a dollar, before rounding.
fn price(call: &SkillRunLog) -> Option<f64> {
    let usage = call.usage.as_ref().unwrap();
    let (input, output) = (usage.input_tokens.unwrap(), usage.output_tokens.unwrap());
    let cached = usage.cache_read_tokens.unwrap_or_default();
    let is_early = call.created_at.unwrap() < start() + TimeDelta::days(2);
    let [plain, read, out] = match (usage.model.as_deref().unwrap(), input > 1_000) {
        ("large", true) if is_early => [6.0, 6.0, 30.0],
        ("large", false) if is_early => [3.0, 0.3, 15.0],
        ("large", _) => [2.0, 2.0, 10.0],
        ("small", _) => [0.5, 0.5, 1.0],
        _ => return None,
    };
    Some((input - cached) as f64 * plain + cached as f64 * read + output as f64 * out)
}

fn expected(calls: &[&SkillRunLog]) -> Cost {
    let mut cost = Cost::default();
    cost.calls = calls.len() as u64;
    let mut computed = 0.0;
    for call in calls {
        let usage = call.usage.as_ref().unwrap();
        cost.input_tokens += usage.input_tokens.unwrap();
        cost.output_tokens += usage.output_tokens.unwrap();
        cost.reported_micros += usage.cost_micros.unwrap_or_default();
        cost.unreported_calls += u64::from(usage.cost_micros.is_none());
        match price(call) {
            Some(micros) => computed += micros,
            None => cost.unpriced_calls += 1,
        }
    }
    cost.computed_micros = computed.round() as u64;
    cost
}

/// Each model, tier and period of prices is rounded once.
fn assert_equal(actual: &Cost, expected: &Cost) {
    let difference = actual.computed_micros.abs_diff(expected.computed_micros);
    assert!(difference <= 8, "{actual:?} {expected:?}");
    let mut actual = *actual;
    actual.computed_micros = expected.computed_micros;
    assert_eq!(actual, *expected);
}

on_each_backend! {
    async fn each_call_has_the_price_of_its_model_size_and_time(database) {
        let store = database.store().await;
        for run in ["first", "second"] {
            store.start_run(&running(run)).await.unwrap();
            store.append_logs(&calls(run)).await.unwrap();
        }
        let prices = PriceFile::parse(PRICES).unwrap();
        let query = StatisticsQuery::of(RunQuery::new());

        let rows = costs(&store, &prices, &query).await.unwrap();
        let both = [calls("first"), calls("second")].concat();
        assert_eq!(rows.len(), 1);
        assert_equal(&rows[0].values, &expected(&both.iter().collect::<Vec<_>>()));

        let by_model = query.clone().group_by([Dimension::Model]);
        let rows = costs(&store, &prices, &by_model).await.unwrap();
        let models: Vec<_> = rows.iter().map(|row| row.group[0].as_deref()).collect();
        assert_eq!(models, [Some("large"), Some("small"), Some("unknown")]);
        for row in &rows {
            let model = |call: &&SkillRunLog| call.usage.as_ref().unwrap().model == row.group[0];
            assert_equal(&row.values, &expected(&both.iter().filter(model).collect::<Vec<_>>()));
        }

        // Not at the times at which prices change.
        let from = start() + TimeDelta::hours(7);
        let to = from + TimeDelta::days(4);
        let buckets = Buckets::every(BucketWidth::Hours(9), &Utc, from, to).unwrap();
        let starts = buckets.starts().to_vec();
        let by_time = query.clone().buckets(buckets);
        let rows = costs(&store, &prices, &by_time).await.unwrap();
        let bucket = |call: &SkillRunLog| {
            let at = call.created_at.unwrap();
            starts.iter().rfind(|start| **start <= at).copied()
        };
        assert_eq!(rows.first().unwrap().bucket, bucket(&both[0]));
        assert_eq!(rows.last().unwrap().bucket, bucket(&both[99]));
        for row in &rows {
            let calls = both.iter().filter(|call| bucket(call) == row.bucket);
            assert_equal(&row.values, &expected(&calls.collect::<Vec<_>>()));
        }

        let tiers = query.input_tiers([5]);
        let refused = costs(&store, &prices, &tiers).await;
        assert!(matches!(refused, Err(Error::InvalidInput { field: "input_tiers", .. })));
    }
}
