//! The list of runs.

use axum::response::Response;
use maud::{Markup, html};
use runtrail_audit::{Cursor, CursorPage, ListOrder, PageRequest, RunSummary};

use crate::error::Result;
use crate::filters::{self, Filters, Show};
use crate::format;
use crate::layout::{self, Section};
use crate::url;
use crate::visitor::Visitor;

/// The parameter with the cursor of a page.
const AT: &str = "at";

const PAGE_RUNS: u64 = 50;

pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let filters = Filters::parse(&visitor.parameters, visitor.now)?;
    let cursor = visitor.parameters.first(AT).map(Cursor::from);
    let request = PageRequest::first(PAGE_RUNS).at(cursor);
    let query = visitor.restrict(filters.query());
    let history = visitor.history();
    let page = history
        .page_run_summaries(&query, ListOrder::NewestFirst, &request)
        .await?;
    let body = html! {
        h1 { "Runs" }
        (form(&filters))
        (list(&visitor, &filters, &page))
    };
    Ok(layout::page(&visitor.root, "Runs", Section::Runs, body))
}

fn form(filters: &Filters) -> Markup {
    let first = |values: &[String]| values.first().cloned().unwrap_or_default();
    html! {
        form.filters method="get" action="./" role="search" aria-label="Filter runs" {
            label { "Skill" input name=(filters::SKILL) value=(first(&filters.skills)); }
            label { "Caller" input name=(filters::CALLER) value=(first(&filters.callers)); }
            button { "Filter" }
        }
    }
}

fn list(visitor: &Visitor, filters: &Filters, page: &CursorPage<RunSummary>) -> Markup {
    html! {
        @if page.items.is_empty() {
            p.empty {
                @if filters.is_set() { "No run matches these filters." }
                @else if filters.show == Show::TopLevel { "No runs are recorded yet." }
            }
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
                tbody { @for run in &page.items { (row(visitor, run)) } }
            }
        }
        (pager(filters, page))
    }
}

fn row(visitor: &Visitor, run: &RunSummary) -> Markup {
    let link = format!("runs/{}", url::segment(&run.id));
    html! {
        tr data-row data-run=(run.id) {
            td { (format::status(&run.status)) }
            td.run {
                a href={ (visitor.root) (link) } { (format::name(&run.skill_id)) }
                " "
                span.id { (format::name(&run.id)) }
            }
            td.wide { (format::name(&run.caller_id)) }
            td.number { (format::time(run.started_at, visitor.now)) }
            td.number { (format::run_duration(run, visitor.now)) }
            td.number.wide { (format::rough_count(run.total_tokens())) }
        }
    }
}

fn pager(filters: &Filters, page: &CursorPage<RunSummary>) -> Markup {
    let link = |cursor: &Cursor| filters.parameters().with(AT, cursor.as_str()).link("./");
    html! {
        @if page.previous.is_some() || page.next.is_some() {
            nav.pager aria-label="Pages of runs" {
                @if let Some(cursor) = &page.previous { a rel="prev" href=(link(cursor)) { "← Newer" } }
                @if let Some(cursor) = &page.next { a rel="next" href=(link(cursor)) { "Older →" } }
            }
        }
    }
}
