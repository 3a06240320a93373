//! Runs as they start and finish.

use std::sync::Arc;

use axum::response::Response;
use futures_util::stream::{self, StreamExt};
use runtrail_audit::{Error, RunSummary, SubtreeTotals, WatchStart, Watched};

use super::{PAGE_RUNS, table};
use crate::error::Result;
use crate::filters::Filters;
use crate::live;
use crate::visitor::Visitor;

type Item<T> = Result<Watched<T>, Error>;

/// Sends a row whenever a run that matches the filters has started or changed.
pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let filters = Filters::parse(&visitor.parameters, visitor.now)?;
    let start = live::last_cursor(&visitor).map_or(WatchStart::Now, WatchStart::After);
    let query = visitor.restrict(filters.query());
    let visitor = Arc::new(visitor);
    let reader = Arc::clone(&visitor);
    let runs = visitor
        .history()
        .watch_runs(&query, &start)
        // Runs that arrive together share a query of their totals.
        .ready_chunks(PAGE_RUNS as usize)
        .then(move |runs| with_totals(Arc::clone(&reader), runs))
        .flat_map(stream::iter)
        .boxed();
    Ok(live::respond(visitor, runs, |visitor, (run, totals)| {
        table::row(&visitor.root, &run, totals.as_ref(), visitor.current_time())
    }))
}

/// Adds the totals of each run and those below it. If they can't be read, the error ends the
/// stream, and the browser connects again.
async fn with_totals(
    visitor: Arc<Visitor>,
    runs: Vec<Item<RunSummary>>,
) -> Vec<Item<(RunSummary, Option<SubtreeTotals>)>> {
    let arrived = runs.iter().flatten().map(|run| &run.item);
    let totals = match visitor.subtree_totals(arrived).await {
        Ok(totals) => totals,
        Err(err) => return vec![Err(err)],
    };
    let with_totals = |run: Watched<RunSummary>| {
        // A run may arrive twice.
        let of_run = totals.get(&run.item.id).cloned();
        Watched::new((run.item, of_run), run.cursor)
    };
    runs.into_iter().map(|run| run.map(with_totals)).collect()
}
