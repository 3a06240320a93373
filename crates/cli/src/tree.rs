use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use clap::Args;
use runtrail::{Error, RunSummary, RunTree};
use serde::Serialize;

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::output::{
    self, Column, Table, count, dollars, duration, printable, rough_count, run_duration, status,
};
use crate::prices::PriceArguments;
use crate::run_id::RunId;
use crate::run_usage::{RunUsage, tokens};

const COLUMNS: [Column; 11] = [
    Column::id("RUN"),
    Column::text("SKILL"),
    Column::text("STATUS"),
    Column::number("DURATION"),
    Column::number("TOOLS"),
    Column::number("TOKENS"),
    Column::number("Σ RUNS").with_weight(1),
    Column::number("Σ DURATION").with_weight(2),
    Column::number("Σ TOOLS"),
    Column::number("Σ TOKENS"),
    Column::number("Σ COST").unless_empty().with_weight(3),
];

/// The number of levels that are indented. Deeper runs show their depth as a number.
const INDENTED_LEVELS: usize = 16;

/// Show a run and all its descendants, with totals (Σ).
///
/// The duration is what the run reported, or else the time from its start to its finish. The tokens
/// are those of its model calls, or else the totals that it reported. The cost is the reported one,
/// or else that by a price list; ≥ means that some calls have no known price.
#[derive(Args)]
pub(crate) struct Tree {
    #[command(flatten)]
    run: RunId,
    /// Print each run as a line of JSON, parents before their children.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    prices: PriceArguments,
}

/// A run at its place in the tree.
#[derive(Serialize)]
struct Node {
    #[serde(flatten)]
    run: RunSummary,
    /// 0 at the top.
    depth: usize,
    subtree: Sums,
    /// Its own tokens.
    #[serde(skip)]
    tokens: u64,
    #[serde(skip)]
    is_last_child: bool,
}

/// The totals of a run and all its descendants.
#[derive(Clone, Copy, Serialize)]
struct Sums {
    runs: u64,
    tool_calls: u64,
    runtime_seconds: f64,
    total_input_tokens: u64,
    total_output_tokens: u64,
    total_thinking_tokens: u64,
    /// In millionths of a dollar; without the calls whose cost is unknown.
    cost_micros: u64,
    calls_with_unknown_cost: u64,
    /// The tokens that the table shows. Thinking tokens of model calls are part of the output.
    #[serde(skip)]
    shown_tokens: u64,
    /// The duration that the table shows. Where a run reported none, it is the time from start to
    /// finish.
    #[serde(skip)]
    shown_seconds: f64,
}

impl Tree {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let id = self.run.resolve(&store).await?;
        let runs = store.list_subtree(&id).await?;
        let prices = self.prices.read()?;
        let usage = RunUsage::of_each(&runs, &store, &*prices).await?;
        let now = store.now();
        let sums = |run: &RunSummary| Sums::of(run, usage.get(&run.id), now);
        let mut nodes = arrange(&id, runs, sums).ok_or_else(|| Error::not_found(&id))?;
        if self.json {
            return output::json_lines(&nodes);
        }

        let whole = table(&nodes, now);
        if whole.fits(output::width()) {
            return output::show(&whole);
        }
        let mut runs: Vec<_> = nodes.iter().map(|node| node.run.clone()).collect();
        output::shorten_ids(&mut runs, &store).await?;
        for (node, run) in nodes.iter_mut().zip(runs) {
            node.run = run;
        }
        output::show(&table(&nodes, now))
    }
}

fn table(nodes: &[Node], now: DateTime<Utc>) -> Table<11> {
    let mut table = Table::new(&COLUMNS);
    let mut branches = Branches::default();
    for node in nodes {
        let Node {
            run,
            subtree,
            tokens,
            ..
        } = node;
        table.push([
            branches.next(node) + &printable(&run.id),
            printable(&run.skill_id),
            status(&run.status),
            run_duration(run, now),
            count(run.tool_calls),
            rough_count(*tokens),
            count(subtree.runs),
            duration(subtree.shown_seconds),
            count(subtree.tool_calls),
            rough_count(subtree.shown_tokens),
            subtree.shown_cost(),
        ]);
    }
    table
}

impl Sums {
    fn of(run: &RunSummary, usage: Option<&RunUsage>, now: DateTime<Utc>) -> Self {
        let (input, output, thinking) = match usage.filter(|usage| usage.has_tokens()) {
            Some(usage) => (
                usage.input_tokens,
                usage.output_tokens,
                usage.thinking_tokens,
            ),
            None => (
                run.total_input_tokens,
                run.total_output_tokens,
                run.total_thinking_tokens,
            ),
        };
        Self {
            runs: 1,
            tool_calls: run.tool_calls,
            runtime_seconds: run.runtime_seconds,
            total_input_tokens: input,
            total_output_tokens: output,
            total_thinking_tokens: thinking,
            cost_micros: usage.map_or(0, |usage| usage.cost_micros),
            calls_with_unknown_cost: usage.map_or(0, |usage| usage.calls_with_unknown_cost),
            shown_tokens: tokens(run, usage),
            shown_seconds: run.elapsed_seconds(now),
        }
    }

    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.tool_calls = self.tool_calls.saturating_add(other.tool_calls);
        self.runtime_seconds += other.runtime_seconds;
        self.shown_seconds += other.shown_seconds;
        self.shown_tokens = self.shown_tokens.saturating_add(other.shown_tokens);
        self.total_input_tokens = self
            .total_input_tokens
            .saturating_add(other.total_input_tokens);
        self.total_output_tokens = self
            .total_output_tokens
            .saturating_add(other.total_output_tokens);
        self.total_thinking_tokens = self
            .total_thinking_tokens
            .saturating_add(other.total_thinking_tokens);
        self.cost_micros = self.cost_micros.saturating_add(other.cost_micros);
        self.calls_with_unknown_cost = self
            .calls_with_unknown_cost
            .saturating_add(other.calls_with_unknown_cost);
    }

    fn shown_cost(&self) -> String {
        match (self.cost_micros, self.calls_with_unknown_cost) {
            (0, _) => String::new(),
            (micros, 0) => dollars(micros),
            (micros, _) => format!("≥{}", dollars(micros)),
        }
    }
}

/// Orders the runs as a tree: parents before their children, children in the order in which they
/// started. Returns `None` if the top is not among the runs.
///
/// It doesn't recurse, since a tree may be a chain of thousands of runs.
fn arrange(
    top: &str,
    newest_first: Vec<RunSummary>,
    sums: impl Fn(&RunSummary) -> Sums,
) -> Option<Vec<Node>> {
    let mut children: HashMap<String, Vec<RunSummary>> = HashMap::new();
    let mut root = None;
    let total = newest_first.len();
    let ids: HashSet<String> = newest_first.iter().map(|run| run.id.clone()).collect();
    for run in newest_first {
        if run.id == top {
            // Ignore the parent of the top: in a cycle, that parent is also one of its descendants.
            root = Some(run);
            continue;
        }
        let parent = run.parent_run_id.as_ref().filter(|id| ids.contains(*id));
        // If the parent is damaged, the run is shown below the top.
        let parent = parent.map_or(top, String::as_str).to_owned();
        children.entry(parent).or_default().push(run);
    }

    let mut nodes: Vec<Node> = Vec::with_capacity(total);
    let mut parents: Vec<Option<usize>> = Vec::with_capacity(total);
    // A stack. Children are pushed newest first, so the oldest is popped first.
    let mut stack = vec![(root?, None, true)];
    while let Some((run, parent, is_last_child)) = stack.pop() {
        let place = nodes.len();
        let own_children = children.remove(&run.id).unwrap_or_default();
        let own_children = own_children.into_iter().enumerate();
        stack.extend(own_children.map(|(age, child)| (child, Some(place), age == 0)));
        parents.push(parent);
        let own = sums(&run);
        nodes.push(Node {
            depth: parent.map_or(0, |parent: usize| nodes[parent].depth + 1),
            subtree: own,
            tokens: own.shown_tokens,
            is_last_child,
            run,
        });
    }
    // Sum from the end: a child always comes after its parent.
    for place in (0..nodes.len()).rev() {
        if let Some(parent) = parents[place] {
            let sums = nodes[place].subtree;
            nodes[parent].subtree.add(sums);
        }
    }
    Some(nodes)
}

/// Draws the lines that lead to each run.
#[derive(Default)]
struct Branches {
    /// For each level above, whether its line continues.
    continues: Vec<bool>,
}

impl Branches {
    fn next(&mut self, node: &Node) -> String {
        self.continues.truncate(node.depth.saturating_sub(1));
        let mut line = String::new();
        if node.depth > INDENTED_LEVELS {
            line = format!("({}) ", node.depth);
        } else if node.depth > 0 {
            for &continues in &self.continues {
                line += if continues { "│ " } else { "  " };
            }
            line += if node.is_last_child { "└ " } else { "├ " };
        }
        if node.depth > 0 {
            self.continues.push(!node.is_last_child);
        }
        line
    }
}
