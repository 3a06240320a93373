//! One page of the list.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use runtrail_audit::{Cursor, CursorPage, RunSummary};

use crate::filters::{self, CURSOR, Filters, Show};
use crate::format;
use crate::url::{self, Parameters};
use crate::visitor::Visitor;

pub(crate) fn show(visitor: &Visitor, filters: &Filters, page: &CursorPage<RunSummary>) -> Markup {
    html! {
        @if page.items.is_empty() {
            (empty(visitor, filters))
        } @else {
            table.runs {
                caption.hidden { "Runs, newest first" }
                thead {
                    tr {
                        th scope="col" { "Status" }
                        th scope="col" { "Run" }
                        th.wide scope="col" { "Caller" }
                        th.number scope="col" { "Started" }
                        th.number scope="col" { "Duration" }
                        th.number.wide scope="col" { "Tokens" }
                    }
                }
                tbody { @for run in &page.items { (row(&visitor.root, run, visitor.now)) } }
            }
        }
        (pager(filters, page))
    }
}

pub(super) fn row(root: &str, run: &RunSummary, now: DateTime<Utc>) -> Markup {
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
            td.number.wide title={ (format::count(run.total_tokens())) " tokens" } {
                @if run.total_tokens() > 0 { (format::rough_count(run.total_tokens())) }
            }
        }
    }
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
