use std::cmp::Reverse;
use std::collections::HashMap;

use clap::Args;
use runtrail::cost::{Cost, costs};
use runtrail::{Dimension, StatisticsQuery, StatisticsRow};

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::filter::FilterArguments;
use crate::grouping::{self, Line, PeriodArguments};
use crate::output::{self, Column, Table, count, dollars, rough_count};
use crate::prices::PriceArguments;

/// Show what model calls cost: as reported, and by a price list.
///
/// Reported and computed costs both cover all calls; don't add them up. Calls without a known price
/// are counted as unpriced, and are not in the computed cost.
#[derive(Args)]
pub(crate) struct CostCommand {
    /// Show each model, provider, skill, caller, channel, status, or value of a label separately;
    /// can be given several times.
    #[arg(
        long,
        value_name = "WHAT",
        value_parser = grouping::dimension,
        value_delimiter = ',',
        default_value = "model",
        help_heading = HEADING
    )]
    by: Vec<Dimension>,
    #[command(flatten)]
    periods: PeriodArguments,
    #[command(flatten)]
    prices: PriceArguments,
    #[command(flatten)]
    filter: FilterArguments,
    /// Print each group as a line of JSON; with --every, each group in each period.
    #[arg(long)]
    json: bool,
}

const HEADING: &str = "Costs";

const COLUMNS: [Column; 8] = [
    Column::text("GROUP"),
    Column::number("CALLS"),
    Column::number("INPUT").with_weight(2),
    Column::number("OUTPUT").with_weight(2),
    Column::number("REPORTED"),
    Column::number("COMPUTED"),
    Column::number("UNPRICED").unless_empty().with_weight(3),
    Column::text("TREND").unless_empty().with_weight(1),
];

impl CostCommand {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let prices = self.prices.read()?;
        let store = database.open_to_read().await?;
        let now = store.now();
        let query = StatisticsQuery::of(self.filter.resolve(now)).group_by(self.by);
        let mut over_time = query.clone();
        over_time.buckets = self.periods.buckets(&store, &query.runs, now).await?;
        if self.json {
            let rows = costs(&store, &*prices, &over_time).await?;
            return output::json_lines(rows.iter().map(|row| Line::of(&query.group_by, row)));
        }
        let mut rows = costs(&store, &*prices, &query).await?;
        rows.sort_by_key(|row| Reverse(shown(&row.values)));
        let trends = match &over_time.buckets {
            Some(buckets) => {
                grouping::trends(buckets, &costs(&store, &*prices, &over_time).await?, shown)
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

/// What decides the order, and the bars over time.
fn shown(cost: &Cost) -> u64 {
    cost.computed_micros.max(cost.reported_micros)
}

fn cells(row: &StatisticsRow<Cost>, trend: String) -> [String; 8] {
    let cost = &row.values;
    let amount = |micros, missing_calls| match cost.calls == missing_calls {
        true => "–".to_owned(),
        false => dollars(micros),
    };
    let unpriced = match cost.unpriced_calls {
        0 => String::new(),
        calls => count(calls),
    };
    [
        grouping::title(row),
        count(cost.calls),
        rough_count(cost.input_tokens),
        rough_count(cost.output_tokens),
        amount(cost.reported_micros, cost.unreported_calls),
        amount(cost.computed_micros, cost.unpriced_calls),
        unpriced,
        trend,
    ]
}
