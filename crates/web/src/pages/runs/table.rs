//! One page of the list.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use maud::{Markup, Render, html};
use runtrail_audit::{Cursor, CursorPage, RunSummary, SubtreeTotals};

use crate::filters::{self, CURSOR, Filters, Show};
use crate::format;
use crate::url::{self, Parameters};
use crate::visitor::Visitor;

/// Renders a page, with the totals of each run and those below it by the ids of the runs.
pub(crate) fn show(
    visitor: &Visitor,
    filters: &Filters,
    page: &CursorPage<RunSummary>,
    totals: &HashMap<String, SubtreeTotals>,
) -> Markup {
    html! {
        @if page.items.is_empty() {
            (empty(visitor, filters))
        } @else {
            table.runs {
                caption.hidden {
                    "Runs, newest first. Tokens and costs include those of the runs below."
                }
                thead {
                    tr {
                        th scope="col" { "Status" }
                        th scope="col" { "Run" }
                        th.wide scope="col" { "Caller" }
                        th.number scope="col" { "Started" }
                        th.number scope="col" { "Duration" }
                        th.number.wider scope="col" { "Runs below" }
                        th.number.wide scope="col" { "Tokens" }
                        th.number.wider scope="col" { "Cost" }
                    }
                }
                tbody {
                    @for run in &page.items {
                        (row(&visitor.root, run, totals.get(&run.id), visitor.now))
                    }
                }
            }
        }
        (pager(filters, page))
    }
}

pub(super) fn row(
    root: &str,
    run: &RunSummary,
    totals: Option<&SubtreeTotals>,
    now: DateTime<Utc>,
) -> Markup {
    let skill = match run.skill_id.as_str() {
        "" => html! { span.muted { "(no skill)" } },
        skill => format::name(skill),
    };
    // Without characters that are invisible in the source of the page too.
    let segment = url::segment(&run.id);
    let of_caller = Parameters::new().with(filters::CALLER, &run.caller_id);
    html! {
        tr data-row data-run=(segment) data-started=(format::machine_time(run.started_at)) {
            td { (format::status(&run.status)) }
            th.run scope="row" {
                a href={ (root) "runs/" (segment) } { (skill) }
                span.id { (format::name(&run.id)) }
            }
            td.wide {
                @if !run.caller_id.is_empty() {
                    a.quiet href=(of_caller.link(root)) { (format::name(&run.caller_id)) }
                }
            }
            td.number { (format::time(run.started_at, now)) }
            td.number { (format::run_duration(run, now)) }
            (totals_of(run, totals))
        }
    }
}

/// Renders the cells of what a run used, together with the runs below it.
fn totals_of(run: &RunSummary, totals: Option<&SubtreeTotals>) -> Markup {
    let is_cut = totals.is_some_and(|totals| totals.is_cut);
    let below = totals.map_or(0, |totals| totals.runs.saturating_sub(1));
    let own = run.total_tokens();
    let tokens = totals.map_or(own, SubtreeTotals::total_tokens);
    let title = match tokens == own {
        true => format!("{} tokens", format::count(tokens)),
        false => format!(
            "{} tokens, {} of them its own",
            format::count(tokens),
            format::count(own)
        ),
    };
    let cost = totals.filter(|totals| totals.calls > totals.calls_without_cost);
    html! {
        td.number.wider { @if below > 0 { (at_least(is_cut, format::count(below))) } }
        td.number.wide title=(title) {
            @if tokens > 0 { (at_least(is_cut, format::rough_count(tokens))) }
        }
        td.number.wider {
            @if let Some(totals) = cost {
                @let is_partial = is_cut || totals.calls_without_cost > 0;
                (at_least(is_partial, format::rough_dollars(totals.cost_micros)))
            }
        }
    }
}

/// Marks a number that may be too low.
fn at_least(is_lower_bound: bool, number: impl Render) -> Markup {
    html! { @if is_lower_bound { span title="at least" { "≥ " } } (number) }
}

fn empty(visitor: &Visitor, filters: &Filters) -> Markup {
    let is_beyond = visitor.parameters.first(CURSOR).is_some();
    html! {
        div.empty {
            @if is_beyond {
                p { "There are no more runs." }
            } @else if filters.is_set() {
                p { "No run matches these filters." }
                @if !filters.shows_all() {
                    @let all = Filters { show: Show::All, ..filters.clone() };
                    p {
                        a href=(all.parameters().link("./")) {
                            "Look among the runs that other runs started"
                        }
                    }
                }
                p { a href="./" { "Clear the filters" } }
            } @else {
                p { "No run is recorded yet." }
            }
        }
    }
}

fn pager(filters: &Filters, page: &CursorPage<RunSummary>) -> Markup {
    // A cursor is for the times for which it was made.
    let parameters = filters.with_fixed_times().parameters();
    let link = |cursor: &Cursor| parameters.clone().with(CURSOR, cursor.as_str()).link("./");
    html! {
        @if page.previous.is_some() || page.next.is_some() {
            nav.pager aria-label="Pages of runs" {
                @if let Some(cursor) = &page.previous {
                    a rel="prev" href=(link(cursor)) { "← Newer" }
                    a href=(filters.parameters().link("./")) { "Newest" }
                }
                @if let Some(cursor) = &page.next {
                    a rel="next" href=(link(cursor)) { "Older →" }
                }
            }
        }
    }
}
