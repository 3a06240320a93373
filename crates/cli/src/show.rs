use std::io::Write;

use anstyle::Style;
use chrono::{DateTime, Utc};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt};
use runtrail::cost::{Cost, Prices};
use runtrail::{
    AuditStore, BulkStorage, ListOrder, LogFilter, ModelUsage, OwnerRecord, Ownership, PageRequest,
    PagedStorage, RunLookup, RunQuery, RunSummary, RunTree, SkillRun, SkillRunLog, Storage,
    UsageTotals, rfc3339,
};
use serde::Serialize;

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::output::{
    self, Column, Record, Table, ago, count, dollars, print_event, printable, run_table,
};
use crate::prices::PriceArguments;
use crate::run_id::RunId;
use crate::warnings;

/// How many ancestors, and how many children, are shown.
const RUNS: usize = 10;
/// How many of the last events are shown.
const EVENTS: usize = 10;

const USAGE_COLUMNS: [Column; 9] = [
    Column::text("MODEL"),
    Column::text("PROVIDER").with_weight(1),
    Column::number("CALLS"),
    Column::number("INPUT"),
    Column::number("CACHED"),
    Column::number("OUTPUT"),
    Column::number("THINKING"),
    Column::number("REPORTED").unless_empty(),
    Column::number("COMPUTED").unless_empty(),
];

/// Show one run in full: fields, inputs, outcome, usage, ancestors, children, last events.
#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    run: RunId,
    /// Print a line of JSON: the run, its usage by model, the ids of its ancestors and
    /// children, and its last events.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    prices: PriceArguments,
}

/// The usage of a model, with its cost by the price list.
#[derive(Serialize)]
struct PricedUsage {
    #[serde(flatten)]
    usage: ModelUsage,
    /// In millionths of a dollar; null if no price is known.
    computed_micros: Option<u64>,
}

/// A run with its usage, ancestors, children and last events.
#[derive(Serialize)]
struct RunDetails {
    #[serde(flatten)]
    run: SkillRun,
    usage: Vec<PricedUsage>,
    /// Parent first.
    #[serde(serialize_with = "ids")]
    ancestors: Vec<RunSummary>,
    /// Newest first.
    #[serde(serialize_with = "ids")]
    children: Vec<RunSummary>,
    #[serde(skip)]
    more_children: u64,
    /// At most [`EVENTS`], oldest first.
    last_events: Vec<SkillRunLog>,
}

fn ids<S: serde::Serializer>(runs: &[RunSummary], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(runs.iter().map(|run| &run.id))
}

impl Show {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let id = self.run.resolve(&store).await?;
        let prices = self.prices.read()?;
        if self.json {
            let details = RunDetails::read(&store, &id, usize::MAX, &*prices).await?;
            return output::json_lines([details]);
        }
        RunDetails::read(&store, &id, RUNS, &*prices)
            .await?
            .print(&store)
            .await
    }
}

impl RunDetails {
    /// Reads a run with at most `children` of its children, without the long texts of the children.
    async fn read(
        store: &AuditStore,
        id: &str,
        children: usize,
        prices: &dyn Prices,
    ) -> Result<Self> {
        let run = store.get_run(id).await?;
        let (children, more_children) = read_children(store, id, children).await?;
        let newest = store.stream_logs(id, &LogFilter::new(), ListOrder::NewestFirst);
        let newest = warnings::skip_damaged(newest).take(EVENTS);
        let mut last_events: Vec<_> = newest.try_collect().await?;
        last_events.reverse();
        let usage = store.usage_by_model(std::slice::from_ref(&run.id)).await?;
        let priced = |usage: ModelUsage| {
            let cost = Cost::of_usage(&usage, run.started_at, prices);
            let is_priced = cost.unpriced_calls == 0;
            PricedUsage {
                computed_micros: is_priced.then_some(cost.computed_micros),
                usage,
            }
        };
        Ok(Self {
            ancestors: store.list_ancestors(id).await?,
            usage: usage.into_iter().map(priced).collect(),
            children,
            more_children,
            run,
            last_events,
        })
    }

    async fn print(self, store: &AuditStore) -> Result<()> {
        let now = store.now();
        let width = output::width();
        let time = |time| format!("{} ({})", rfc3339::text(time), ago(time, now));
        let summary = RunSummary::from(&self.run);
        let SkillRun {
            id,
            skill_id,
            caller_id,
            channel_id,
            parent_run_id,
            inputs,
            started_at,
            finished_at,
            status,
            output,
            error,
            tool_calls,
            runtime_seconds: _,
            total_input_tokens,
            total_output_tokens,
            total_thinking_tokens,
            owner_id,
            labels,
            ..
        } = self.run;

        let mut record = Record::default();
        record.push("run", printable(&id));
        record.push("skill", printable(&skill_id));
        record.push("caller", printable(&caller_id));
        record.push("channel", printable(&channel_id));
        record.push("parent", printable(&parent_run_id.unwrap_or_default()));
        if let Some(owner_id) = owner_id {
            record.push("owner", describe_owner(store, &owner_id, &time).await);
        }
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| printable(&format!("{key}={value}")))
            .collect();
        if !labels.is_empty() {
            record.push("labels", labels.join("\n"));
        }
        record.push("status", output::status(&status));
        record.push("started", time(started_at));
        record.push("finished", finished_at.map(time).unwrap_or_default());
        record.push("duration", output::run_duration(&summary, now));
        record.push("tool calls", count(tool_calls));
        record.push(
            "tokens",
            format!(
                "{} in, {} out, {} thinking",
                count(total_input_tokens),
                count(total_output_tokens),
                count(total_thinking_tokens)
            ),
        );
        let inputs = serde_json::to_string_pretty(&inputs).unwrap_or_default();
        record.push("inputs", printable_lines(&inputs));
        record.push("output", printable_lines(&output));
        record.push("error", printable_lines(&error));

        let mut out = output::styled();
        record.print(&mut out, width)?;
        let heading = Style::new().bold();
        if !self.usage.is_empty() {
            writeln!(out, "\n{heading}Usage{heading:#}")?;
            usage_table(&self.usage).print(&mut out, width)?;
        }
        let more_ancestors = self.ancestors.len().saturating_sub(RUNS) as u64;
        let related = [
            ("Ancestors", self.ancestors, more_ancestors),
            ("Children", self.children, self.more_children),
        ];
        for (title, mut runs, more) in related {
            if runs.is_empty() {
                continue;
            }
            runs.truncate(RUNS);
            writeln!(out, "\n{heading}{title}{heading:#}")?;
            let table = run_table(runs, now, width, store).await?;
            table.print(&mut out, width)?;
            if more > 0 {
                writeln!(out, "and {} more", count(more))?;
            }
        }
        if !self.last_events.is_empty() {
            writeln!(out, "\n{heading}Last events{heading:#}")?;
            for event in &self.last_events {
                print_event(&mut out, event, width)?;
            }
        }
        output::finish(out)
    }
}

fn usage_table(usage: &[PricedUsage]) -> Table<9> {
    let mut table = Table::new(&USAGE_COLUMNS);
    for PricedUsage {
        usage,
        computed_micros,
    } in usage
    {
        let reported = match usage.calls - usage.calls_without_cost {
            // No call has reported one.
            0 => String::new(),
            _ => dollars(usage.cost_micros),
        };
        table.push([
            printable(usage.model.as_deref().unwrap_or_default()),
            printable(usage.provider.as_deref().unwrap_or_default()),
            count(usage.calls),
            count(usage.input_tokens),
            count(usage.cache_read_tokens),
            count(usage.output_tokens),
            count(usage.thinking_tokens),
            reported,
            computed_micros.map(dollars).unwrap_or_default(),
        ]);
    }
    table
}

/// Returns the newest children, and the number of the others.
async fn read_children(
    store: &AuditStore,
    id: &str,
    at_most: usize,
) -> Result<(Vec<RunSummary>, u64)> {
    let at_most = at_most as u64;
    if at_most > PageRequest::MAX_LIMIT {
        return Ok((store.list_children(id).await?, 0));
    }
    let query = RunQuery::new().children_of(id).include_dry_run();
    let page = store
        .page_run_summaries(&query, ListOrder::NewestFirst, &PageRequest::first(at_most))
        .await?;
    let more = match page.next.is_some() {
        true => store.count_children(id).await?.saturating_sub(at_most),
        false => 0,
    };
    Ok((page.items, more))
}

/// Describes the owner of a run: its label, its id, and whether it is alive.
async fn describe_owner(
    store: &AuditStore,
    owner_id: &str,
    time: impl Fn(DateTime<Utc>) -> String,
) -> String {
    let id = printable(owner_id);
    let OwnerRecord {
        owner,
        last_seen_at,
        is_alive,
        ..
    } = match store.find_owner(owner_id).await {
        Ok(Some(record)) => record,
        Ok(None) => return id,
        // The run itself can be shown.
        Err(err) => {
            warnings::note(format!(
                "warning: the owner of the run can't be read: {err}"
            ));
            return id;
        }
    };
    let name = match owner.label.as_str() {
        "" => id,
        label => format!("{} [{id}]", printable(label)),
    };
    match is_alive {
        true => format!("{name}, alive"),
        false => format!("{name}, last seen {}", time(last_seen_at)),
    }
}

fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(printable).collect();
    lines.join("\n")
}
