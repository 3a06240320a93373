//! The runs of a tree and their calls, as bars on one time axis.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use runtrail_audit::{Cursor, ListOrder, LogFilter, PageRequest};

use super::axis::Axis;
use super::event_row::{EventRow, tokens};
use super::links::{Links, ROOT};
use super::tree::{Branch, Tree};
use super::window::Next;
use crate::error::{Failure, Result};
use crate::format;
use crate::url::Parameters;
use crate::visitor::Visitor;

/// A window ends after this many rows, or a few more.
const ROWS: usize = 200;

/// A window ends after this many events, even if few of them are calls.
const MAX_EVENTS: usize = 1_000;

/// The least number of events that are read at once.
const MIN_PAGE: usize = 50;

/// Deeper rows aren't indented further.
const MAX_DEPTH: usize = 24;

/// What a waterfall shows, and where a window of it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WaterfallQuery {
    /// Whether it has the calls too, and not only the runs.
    has_calls: bool,
    /// The run with which the window begins; `None` for the first one.
    branch: Option<String>,
    /// Where it begins within the events of that run; `None` for the run itself.
    at: Option<Cursor>,
    /// The end of the axis, which stays the same while windows of a running tree are loaded.
    until: Option<DateTime<Utc>>,
}

impl WaterfallQuery {
    pub(super) fn parse(parameters: &Parameters) -> Result<Self> {
        let until = parameters.first("until").map(|text| {
            let micros = text.parse().ok().and_then(DateTime::from_timestamp_micros);
            micros.ok_or_else(|| Failure::bad_request("until must be a time in microseconds."))
        });
        Ok(Self {
            has_calls: parameters.first("calls") != Some("no"),
            branch: parameters.first("branch").map(str::to_owned),
            at: parameters.first("at").map(Cursor::from),
            until: until.transpose()?,
        })
    }

    fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::new().with("view", "waterfall");
        if !self.has_calls {
            parameters.push("calls", "no");
        }
        if let Some(branch) = &self.branch {
            parameters.push("branch", branch);
        }
        if let Some(at) = &self.at {
            parameters.push("at", at.as_str());
        }
        if let Some(until) = self.until {
            parameters.push("until", until.timestamp_micros().to_string());
        }
        parameters
    }

    fn is_first(&self) -> bool {
        self.branch.is_none()
    }
}

#[derive(Debug)]
enum Row<'a> {
    Run(&'a Branch),
    Call {
        branch: &'a Branch,
        call: Box<EventRow>,
    },
}

/// Some rows of a waterfall.
#[derive(Debug)]
pub(super) struct Waterfall<'a> {
    query: WaterfallQuery,
    axis: Axis,
    rows: Vec<Row<'a>>,
    next: Option<WaterfallQuery>,
    tree: &'a Tree,
}

impl<'a> Waterfall<'a> {
    /// Reads a window. Each run is followed by its calls, and these by the runs below it, so a
    /// window only needs the events of the runs that it shows.
    pub(super) async fn read(
        visitor: &Visitor,
        tree: &'a Tree,
        query: WaterfallQuery,
    ) -> Result<Self> {
        let axis = axis(tree, query.until.unwrap_or(visitor.now));
        let window = |branch: &Branch, at| WaterfallQuery {
            branch: Some(branch.run.id.clone()),
            at,
            until: Some(axis.to()),
            ..query
        };
        let first = match &query.branch {
            None => 0,
            Some(id) => {
                let place = tree.branches.iter().position(|branch| branch.run.id == *id);
                place
                    .ok_or_else(|| Failure::not_found("The run no longer belongs to this tree."))?
            }
        };
        let (mut rows, mut read) = (Vec::new(), 0);
        let mut at = query.at.clone();
        let mut next = None;
        for branch in &tree.branches[first..] {
            let is_full = rows.len() >= ROWS || read >= MAX_EVENTS;
            if is_full {
                next = Some(window(branch, None));
                break;
            }
            if at.is_none() {
                rows.push(Row::Run(branch));
            }
            if !query.has_calls {
                continue;
            }
            loop {
                let limit = ROWS.saturating_sub(rows.len()).max(MIN_PAGE);
                let request = PageRequest::first(limit as u64).at(at.take());
                let history = visitor.history();
                let order = ListOrder::OldestFirst;
                let filter = LogFilter::new();
                let page = history
                    .page_logs(&branch.run.id, &filter, order, &request)
                    .await?;
                // Damaged events count too.
                read += if page.next.is_some() {
                    limit
                } else {
                    page.items.len()
                };
                let calls = page.items.into_iter().filter(EventRow::is_call);
                rows.extend(calls.map(|event| {
                    let call = Box::new(EventRow::of(visitor, event));
                    Row::Call { branch, call }
                }));
                at = page.next;
                if at.is_none() || rows.len() >= ROWS || read >= MAX_EVENTS {
                    break;
                }
            }
            if at.is_some() {
                next = Some(window(branch, at));
                break;
            }
        }
        Ok(Self {
            query,
            axis,
            rows,
            next,
            tree,
        })
    }

    /// Whether there is more to see than the run itself.
    pub(super) fn has_steps(&self) -> bool {
        self.rows.len() > 1 || !self.query.is_first()
    }

    pub(super) fn render(&self, links: &Links) -> Markup {
        let Tree { branches, omitted } = self.tree;
        let other = WaterfallQuery {
            has_calls: !self.query.has_calls,
            branch: None,
            at: None,
            until: None,
        };
        html! {
            div.tools {
                @if branches.len() > 1 {
                    p { (format::counted(branches.len() as u64, "run")) }
                    a href={ (other.parameters().link(links.run())) "#steps" } {
                        @if self.query.has_calls { "Show only the runs" } @else { "Show calls too" }
                    }
                }
                @if !self.query.is_first() {
                    a href={ (links.run()) "?view=waterfall#steps" } { "From the beginning" }
                }
            }
            @if *omitted > 0 {
                p.note {
                    "The tree has " (format::counted(*omitted, "more run")) ", not shown here."
                }
            }
            table.steps.waterfall data-windows {
                caption.hidden { "Runs and calls, with their times" }
                thead {
                    tr {
                        th scope="col" { "Step" }
                        th.number.wide scope="col" { "After" }
                        th.number scope="col" { "Duration" }
                        th.number.wide scope="col" { "Tokens" }
                        th.time scope="col" {
                            span.axis {
                                span { "0" }
                                span { (format::duration(self.axis.seconds())) }
                            }
                        }
                    }
                }
                (self.body(links))
            }
            (self.more(links))
        }
    }

    /// Renders the rows, and a link to those that follow.
    pub(super) fn fragment(&self, links: &Links) -> Markup {
        html! { table { (self.body(links)) } (self.more(links)) }
    }

    fn body(&self, links: &Links) -> Markup {
        let window = links.fragment("waterfall", &self.query.parameters());
        html! {
            tbody data-window=(window) {
                @for row in &self.rows {
                    @match row {
                        Row::Run(branch) => (self.run_row(branch)),
                        Row::Call { branch, call } => (self.call_row(branch, call)),
                    }
                }
            }
        }
    }

    fn more(&self, links: &Links) -> Markup {
        let parameters = self.next.as_ref().map(WaterfallQuery::parameters);
        Next {
            fragment: "waterfall",
            parameters,
            label: "Next steps",
        }
        .render(links)
    }

    fn run_row(&self, branch: &Branch) -> Markup {
        let run = &branch.run;
        let links = Links::new(ROOT, &run.id);
        let end = run.finished_at.unwrap_or(self.axis.to());
        let duration = format::run_duration(run, self.axis.to());
        let (input, output) = (run.total_input_tokens, run.total_output_tokens);
        html! {
            tr.run data-row {
                th.step scope="row" {
                    (indent(branch.depth))
                    (format::status(&run.status)) " "
                    a href=(links.run()) { (skill(&run.skill_id)) }
                }
                td.number.wide { (self.offset(run.started_at)) }
                td.number { (duration) }
                td.number.wide { @if run.total_tokens() > 0 { (tokens(input, output)) } }
                td.time {
                    (self.axis.draw(format::status_class(run.status.as_str()), run.started_at, end))
                }
            }
        }
    }

    fn call_row(&self, branch: &Branch, call: &EventRow) -> Markup {
        let links = Links::new(ROOT, &branch.run.id);
        let kind = html! { (call_kind(&call.event.event_type)) };
        html! {
            tr data-row {
                th.step scope="row" {
                    (indent(branch.depth + 1))
                    span class={ "kind " (call.class()) } { (call.link(&links, &kind)) }
                    (call.summary())
                }
                td.number.wide { (self.offset(call.start())) }
                td.number { (call.duration().unwrap_or_default()) }
                td.number.wide { @if let Some(tokens) = call.tokens() { (tokens) } }
                td.time { (self.axis.draw(call.class(), call.start(), call.end())) }
            }
        }
    }

    /// Formats how long after the beginning of the axis something was.
    fn offset(&self, time: DateTime<Utc>) -> Markup {
        let after = self.axis.offset(time);
        html! {
            span title=(format::full_time(time)) {
                @if after < 0.0 { "−" }
                (format::duration(after.abs()))
            }
        }
    }
}

/// Returns the axis of a tree, which ends at `now` if it is running.
fn axis(tree: &Tree, now: DateTime<Utc>) -> Axis {
    let runs = || tree.branches.iter().map(|branch| &branch.run);
    let from = runs().map(|run| run.started_at).min().unwrap_or(now);
    let to = runs().map(|run| run.finished_at.unwrap_or(now)).max();
    Axis::new(from, to.unwrap_or(now))
}

fn call_kind(event_type: &str) -> Markup {
    match event_type {
        "model_call" => html! { "model" },
        "tool_call" => html! { "tool" },
        "" => html! { "event" },
        other => format::name(other),
    }
}

pub(super) fn skill(skill_id: &str) -> Markup {
    match skill_id {
        "" => html! { "(no skill)" },
        skill => format::name(skill),
    }
}

/// An indentation, as a picture: the page has no inline style.
fn indent(depth: usize) -> Markup {
    html! {
        @if depth > 0 {
            svg.indent width=(depth.min(MAX_DEPTH) * 14) height="1" aria-hidden="true" {}
            span.hidden { "Level " (depth + 1) ": " }
        }
    }
}
