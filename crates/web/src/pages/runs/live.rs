//! Runs as they start and finish.

use axum::response::Response;
use runtrail_audit::WatchStart;

use super::table;
use crate::error::Result;
use crate::filters::Filters;
use crate::live;
use crate::visitor::Visitor;

/// Sends a row whenever a run that matches the filters has started or changed.
pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let filters = Filters::parse(&visitor.parameters, visitor.now)?;
    let start = live::last_cursor(&visitor).map_or(WatchStart::Now, WatchStart::After);
    let query = visitor.restrict(filters.query());
    let runs = visitor.history().watch_runs(&query, &start);
    Ok(live::respond(visitor, runs, |visitor, run| {
        table::row(&visitor.root, &run, visitor.current_time())
    }))
}
