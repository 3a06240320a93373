//! Events as they are recorded.

use axum::response::Response;
use runtrail_audit::{LogFilter, WatchStart};

use super::event_row::EventRow;
use super::events::{self, event_row};
use super::links::{Links, ROOT};
use crate::error::Result;
use crate::live;
use crate::visitor::Visitor;

/// Sends a row for each event of a run with a larger sequence than `after`, of the given `type` if
/// there is one.
pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let run = visitor.run().await?;
    let mut filter = LogFilter::new();
    filter.event_type = visitor.parameters.first("type").map(str::to_owned);
    let after = visitor.parameters.first("after").map(events::sequence);
    filter.after = after.transpose()?;
    let start = live::last_cursor(&visitor).map_or(WatchStart::Beginning, WatchStart::After);
    let logs = visitor.history().watch_logs(&run.id, &filter, &start);
    let links = Links::new(ROOT, &run.id);
    Ok(live::respond(visitor, logs, move |visitor, event| {
        event_row(&EventRow::of(visitor, event), &links)
    }))
}
