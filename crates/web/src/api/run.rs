use axum::response::Response;
use runtrail_audit::{ListOrder, LogFilter};
use serde_json::{Value, json};

use super::page_request;
use crate::error::Result;
use crate::filters::{self, ORDER, Parameter};
use crate::layout;
use crate::visitor::Visitor;

const TYPE: &str = "type";

pub(crate) const EVENTS: [Parameter; 2] = [
    (TYPE, "The type of the events."),
    (
        ORDER,
        "oldest, the default, for events by ascending sequence; newest by descending.",
    ),
];

/// The maximum number of runs in a tree.
const MAX_TREE: usize = 10_000;

pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let run = visitor.run().await?;
    let mut run = json!(run);
    remove_texts(&visitor, &mut run, &["inputs", "output", "error"]);
    Ok(layout::json(&run))
}

pub(crate) async fn events(visitor: Visitor) -> Result<Response> {
    let run = visitor.run().await?;
    let mut filter = LogFilter::new();
    filter.event_type = visitor.parameters.first(TYPE).map(str::to_owned);
    let order = filters::order(&visitor.parameters)?.unwrap_or(ListOrder::OldestFirst);
    let request = page_request(&visitor)?;
    let page = visitor
        .history()
        .page_logs(&run.id, &filter, order, &request)
        .await?;
    let events = page.items.into_iter().map(|event| {
        let mut event = json!(visitor.visible_event(event));
        remove_texts(&visitor, &mut event, &["payload"]);
        event
    });
    Ok(layout::json(&json!({
        "events": events.collect::<Vec<_>>(),
        "next": page.next,
        "previous": page.previous,
    })))
}

pub(crate) async fn tree(visitor: Visitor) -> Result<Response> {
    let run = visitor.run().await?;
    let mut runs = visitor.subtree(&run).await?;
    // The oldest ones are nearer to the top.
    let omitted = runs.len().saturating_sub(MAX_TREE);
    runs.drain(..omitted);
    Ok(layout::json(&json!({ "runs": runs, "omitted": omitted })))
}

/// Removes fields, so that a program can't mistake them for empty ones.
fn remove_texts(visitor: &Visitor, record: &mut Value, fields: &[&str]) {
    if let Value::Object(record) = record
        && !visitor.shows_texts()
    {
        record.retain(|name, _| !fields.contains(&name.as_str()));
    }
}
