use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use clap::Args;
use runtrail::{
    AuditStore, CallStatistics, Dimension, Percentiles, RunStatistics, Statistics, StatisticsQuery,
    StatisticsRow, retain_top,
};
use serde::Serialize;

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::filter::FilterArguments;
use crate::grouping::{self, Line, PeriodArguments};
use crate::output::{self, Column, Table, count, dollars, duration, rough_count};

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
        value_parser = grouping::dimension,
        value_delimiter = ',',
        help_heading = HEADING
    )]
    by: Vec<Dimension>,
    #[command(flatten)]
    periods: PeriodArguments,
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

impl Stats {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let now = store.now();
        let mut query = StatisticsQuery::of(self.filter.resolve(now)).group_by(self.by);
        query.last_per_skill = self.last;
        let mut over_time = query.clone();
        over_time.buckets = self.periods.buckets(&store, &query.runs, now).await?;
        let top = self.top.unwrap_or(usize::MAX);
        if self.json {
            let mut rows = totals(&store, &over_time).await?;
            retain_top(&mut rows, top, Totals::size);
            return output::json_lines(rows.iter().map(|row| Line::of(&query.group_by, row)));
        }
        let mut rows = totals(&store, &query).await?;
        retain_top(&mut rows, top, Totals::size);
        rows.sort_by_key(|row| Reverse(row.values.size()));
        let trends = match &over_time.buckets {
            Some(buckets) => {
                grouping::trends(buckets, &totals(&store, &over_time).await?, Totals::size)
            }
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
        grouping::title(row),
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
