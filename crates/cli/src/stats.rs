use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use clap::Args;
use runtrail::{
    AuditStore, BucketWidth, Buckets, CallStatistics, Dimension, ListOrder, PageRequest,
    PagedStorage, Percentiles, RunQuery, RunStatistics, Statistics, StatisticsQuery, StatisticsRow,
    retain_top, rfc3339, rules,
};
use serde::Serialize;

use crate::calendar::{self, Zone};
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};
use crate::filter::FilterArguments;
use crate::output::{self, Column, Table, count, dollars, duration, printable, rough_count};

/// Show how many runs there were, how they went, and what they used.
///
/// Without --by, all runs are one group. By provider or model, the statistics are about the calls
/// of models and tools instead of the runs.
#[derive(Args)]
pub(crate) struct Stats {
    /// Show each skill, caller, channel, status, provider, model, or value of a label separately;
    /// can be given several times.
    #[arg(
        long,
        value_name = "WHAT",
        value_parser = dimension,
        value_delimiter = ',',
        help_heading = HEADING
    )]
    by: Vec<Dimension>,
    /// Show how the number of runs changed over time: 15m, 1h, 1d, 1w, 1month, 1y, or a multiple.
    #[arg(long, value_name = "PERIOD", value_parser = calendar::width, help_heading = HEADING)]
    every: Option<BucketWidth>,
    /// The time zone of the periods: a name such as Europe/Berlin, local, or utc.
    #[arg(long, value_name = "ZONE", default_value = "utc", help_heading = HEADING)]
    time_zone: Zone,
    /// Show only the groups with the most runs or calls, at most this many.
    #[arg(long, value_name = "N", help_heading = HEADING)]
    top: Option<usize>,
    /// Only the newest runs of each skill, at most this many.
    #[arg(long, value_name = "N", help_heading = HEADING)]
    last: Option<u64>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Print each group as a line of JSON; with --every, each group in each period.
    #[arg(long)]
    json: bool,
}

const HEADING: &str = "Statistics";

const COLUMNS: [Column; 14] = [
    Column::text("GROUP"),
    Column::number("RUNS").unless_empty(),
    Column::number("FAILED").unless_empty(),
    Column::number("TOOLS").unless_empty().with_weight(2),
    Column::number("P50").unless_empty(),
    Column::number("P90").unless_empty().with_weight(1),
    Column::number("P95").unless_empty(),
    Column::number("P99").unless_empty().with_weight(1),
    Column::number("CALLS").unless_empty().with_weight(3),
    Column::number("INPUT").unless_empty().with_weight(5),
    Column::number("CACHED").unless_empty().with_weight(1),
    Column::number("OUTPUT").unless_empty().with_weight(5),
    Column::number("COST").unless_empty().with_weight(6),
    Column::text("TREND").unless_empty().with_weight(4),
];

/// Statistics of the runs of a group, unless they are grouped by model or provider, and of the
/// calls of these runs.
#[derive(Default, Serialize)]
struct Totals {
    #[serde(flatten)]
    runs: Option<RunStatistics>,
    #[serde(flatten)]
    calls: CallStatistics,
}

impl Totals {
    /// The number of what a group consists of.
    fn size(&self) -> u64 {
        self.runs.map_or(self.calls.calls, |runs| runs.runs)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    /// The value of each dimension.
    group: BTreeMap<String, Option<&'a str>>,
    /// When the period began; null without `--every`.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    bucket: Option<DateTime<Utc>>,
    #[serde(flatten)]
    totals: &'a Totals,
}

impl Stats {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let now = store.now();
        let mut query = StatisticsQuery::of(self.filter.resolve(now)).group_by(self.by);
        query.last_per_skill = self.last;
        let buckets = match self.every {
            Some(width) => Some(buckets(&store, &query.runs, width, self.time_zone, now).await?),
            None => None,
        };
        let mut over_time = query.clone();
        over_time.buckets = buckets;
        let top = self.top.unwrap_or(usize::MAX);
        if self.json {
            let mut rows = totals(&store, &over_time).await?;
            retain_top(&mut rows, top, Totals::size);
            return output::json_lines(rows.iter().map(|row| Line {
                group: named_group(&query.group_by, row),
                bucket: row.bucket,
                totals: &row.values,
            }));
        }
        let mut rows = totals(&store, &query).await?;
        retain_top(&mut rows, top, Totals::size);
        rows.sort_by_key(|row| Reverse(row.values.size()));
        let trends = match &over_time.buckets {
            Some(buckets) => trends(buckets, &totals(&store, &over_time).await?, Totals::size),
            None => HashMap::new(),
        };
        let mut table = Table::new(&COLUMNS);
        for row in &rows {
            let trend = trends.get(&row.group).cloned().unwrap_or_default();
            table.push(cells(row, trend));
        }
        output::show(&table)
    }
}

/// What `--by` accepts, besides labels.
const DIMENSIONS: [(&str, Dimension); 6] = [
    ("skill", Dimension::Skill),
    ("caller", Dimension::Caller),
    ("channel", Dimension::Channel),
    ("status", Dimension::Status),
    ("provider", Dimension::Provider),
    ("model", Dimension::Model),
];

pub(crate) fn dimension(text: &str) -> Result<Dimension, String> {
    if let Some((_, dimension)) = DIMENSIONS.into_iter().find(|(name, _)| *name == text) {
        return Ok(dimension);
    }
    let key = text
        .strip_prefix("label:")
        .ok_or("expected skill, caller, channel, status, provider, model or label:KEY")?;
    let key = rules::label_key(key).map_err(|err| err.to_string())?;
    Ok(Dimension::Label(key.to_owned()))
}

/// Returns the name by which `--by` accepts a dimension.
fn name(dimension: &Dimension) -> String {
    if let Dimension::Label(key) = dimension {
        return format!("label:{key}");
    }
    let named = DIMENSIONS.into_iter().find(|(_, named)| named == dimension);
    named.map(|(name, _)| name.to_owned()).unwrap_or_default()
}

/// Returns the periods from `--since` to `--until`; by default, from the start of the oldest run
/// until now.
pub(crate) async fn buckets(
    store: &AuditStore,
    runs: &RunQuery,
    width: BucketWidth,
    zone: Zone,
    now: DateTime<Utc>,
) -> Result<Buckets> {
    let to = runs.started.to.unwrap_or(now);
    let oldest = store
        .page_run_summaries(runs, ListOrder::OldestFirst, &PageRequest::first(1))
        .await?;
    let oldest = oldest.items.first().map(|run| run.started_at);
    let from = runs.started.from.or(oldest).unwrap_or(to);
    zone.buckets(width, from, to.max(from))
        .map_err(|err| Failure::usage(format!("--every can't be used here: {err}")))
}

async fn totals(store: &AuditStore, query: &StatisticsQuery) -> Result<Vec<StatisticsRow<Totals>>> {
    let is_of_calls =
        |dimension: &Dimension| matches!(dimension, Dimension::Provider | Dimension::Model);
    let runs = match query.group_by.iter().any(is_of_calls) {
        true => None,
        false => Some(store.run_statistics(query).await?),
    };
    let calls = store.call_statistics(query).await?;

    // In the order of rows.
    let mut totals: BTreeMap<_, Totals> = BTreeMap::new();
    let has_runs = runs.is_some();
    for row in runs.into_iter().flatten() {
        totals.entry((row.group, row.bucket)).or_default().runs = Some(row.values);
    }
    for row in calls {
        let totals = totals.entry((row.group, row.bucket)).or_default();
        totals.calls = row.values;
        if has_runs {
            // In this period there may be calls of runs that started earlier.
            totals.runs.get_or_insert_default();
        }
    }
    let row = |((group, bucket), totals)| {
        let mut row = StatisticsRow::new(group, totals);
        row.bucket = bucket;
        row
    };
    Ok(totals.into_iter().map(row).collect())
}

/// Returns the value of each dimension by its name.
pub(crate) fn named_group<'a, T>(
    dimensions: &[Dimension],
    row: &'a StatisticsRow<T>,
) -> BTreeMap<String, Option<&'a str>> {
    let values = row.group.iter().map(Option::as_deref);
    dimensions.iter().map(name).zip(values).collect()
}

/// Draws a number of each group over time.
pub(crate) fn trends<T>(
    buckets: &Buckets,
    rows: &[StatisticsRow<T>],
    size: impl Fn(&T) -> u64,
) -> HashMap<Vec<Option<String>>, String> {
    let of_group = rows.chunk_by(|row, next| row.group == next.group);
    let trend = |rows: &[StatisticsRow<T>]| {
        let sizes = rows.iter().map(|row| (row.bucket, size(&row.values)));
        let sizes: HashMap<_, _> = sizes.collect();
        let size = |start: &DateTime<Utc>| sizes.get(&Some(*start)).copied().unwrap_or_default();
        let numbers: Vec<u64> = buckets.starts().iter().map(size).collect();
        Some((rows.first()?.group.clone(), output::trend(&numbers)))
    };
    of_group.filter_map(trend).collect()
}

fn cells(row: &StatisticsRow<Totals>, trend: String) -> [String; 14] {
    let Totals { runs, calls } = &row.values;
    let of_runs = |number: fn(&RunStatistics) -> u64| {
        runs.as_ref()
            .map(|runs| count(number(runs)))
            .unwrap_or_default()
    };
    let of_calls = |number: u64| match calls.calls {
        0 => String::new(),
        _ => rough_count(number),
    };
    let durations = runs.map_or(calls.duration, |runs| runs.runtime);
    let percentile = |micros: fn(Percentiles) -> u64| {
        let seconds = |percentiles| micros(percentiles) as f64 / 1e6;
        let percentile = durations.percentiles.map(seconds);
        percentile.map(duration).unwrap_or_default()
    };
    let cost = match calls.calls - calls.calls_without_cost {
        // No call has reported one.
        0 => String::new(),
        _ => dollars(calls.cost_micros),
    };
    [
        group(row),
        of_runs(|runs| runs.runs),
        of_runs(|runs| runs.failed),
        of_runs(|runs| runs.tool_calls),
        percentile(|it| it.p50_micros),
        percentile(|it| it.p90_micros),
        percentile(|it| it.p95_micros),
        percentile(|it| it.p99_micros),
        of_calls(calls.calls),
        of_calls(calls.input_tokens),
        of_calls(calls.cache_read_tokens),
        of_calls(calls.output_tokens),
        cost,
        trend,
    ]
}

pub(crate) fn group<T>(row: &StatisticsRow<T>) -> String {
    if row.group.is_empty() {
        return "all".to_owned();
    }
    let value = |value: &Option<String>| match value {
        Some(value) => printable(value),
        None => "–".to_owned(),
    };
    row.group.iter().map(value).collect::<Vec<_>>().join(", ")
}
