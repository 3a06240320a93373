use axum::response::Response;
use runtrail_audit::ListOrder;
use serde_json::json;

use super::page_request;
use crate::error::Result;
use crate::filters::Filters;
use crate::layout;
use crate::visitor::Visitor;

pub(crate) async fn list(visitor: Visitor) -> Result<Response> {
    let filters = Filters::parse(&visitor.parameters, visitor.now)?;
    let request = page_request(&visitor)?;
    let query = visitor.restrict(filters.query());
    let history = visitor.history();
    let page = history
        .page_run_summaries(&query, ListOrder::NewestFirst, &request)
        .await?;
    Ok(layout::json(&json!({
        "runs": page.items,
        "next": page.next,
        "previous": page.previous,
    })))
}
