//! The list of runs.

pub(crate) mod form;
mod histogram;
mod live;
mod table;

use axum::response::Response;
use maud::html;
use runtrail_audit::{Cursor, ListOrder, PageRequest};

use crate::error::Result;
use crate::filters::{CURSOR, Filters};
use crate::layout::{self, Section};
use crate::visitor::Visitor;

pub(crate) use histogram::show as show_histogram;
pub(crate) use live::show as live;

/// The parameter that shows the histogram without a script.
const CHART: &str = "chart";

const PAGE_RUNS: u64 = 50;

pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let filters = Filters::parse(&visitor.parameters, visitor.now)?;
    let cursor = visitor.parameters.first(CURSOR).map(Cursor::from);
    let request = PageRequest::first(PAGE_RUNS).at(cursor);
    let query = visitor.restrict(filters.query());
    let history = visitor.history();
    let page = history
        .page_run_summaries(&query, ListOrder::NewestFirst, &request)
        .await?;
    let totals = visitor.subtree_totals(&page.items).await?;
    let chart = match visitor.parameters.first(CHART) {
        Some(_) => histogram::of(&visitor, &filters).await?,
        None => histogram::placeholder(&filters),
    };
    // Only the first page changes.
    let is_first = page.previous.is_none() && visitor.parameters.first(CURSOR).is_none();
    let live = is_first.then(|| filters.parameters().link("./live"));
    let body = html! {
        div.heading { h1 { "Runs" } (form::levels(&filters)) }
        (form::show(&filters))
        (chart)
        div.list data-live=[live] data-size=(PAGE_RUNS) {
            (table::show(&visitor, &filters, &page, &totals))
        }
    };
    Ok(layout::page(&visitor.root, "Runs", Section::Runs, body))
}
