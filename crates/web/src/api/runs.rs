use axum::response::Response;
use runtrail_audit::ListOrder;
use serde_json::json;

use super::page_request;
use crate::error::{Failure, Result};
use crate::filters::{Filters, Parameter};
use crate::layout;
use crate::visitor::Visitor;

/// The parameter that adds totals, and the field with them.
const TOTALS: &str = "totals";
const SUBTREE: &str = "subtree";

pub(crate) const LIST: [Parameter; 1] = [(
    TOTALS,
    "yes adds `subtree` to each run: the totals of the run and its descendants. Of each tree, at \
     most 1000 runs are added up; `is_cut` is then true.",
)];

pub(crate) async fn list(visitor: Visitor) -> Result<Response> {
    let filters = Filters::parse(&visitor.parameters, visitor.now)?;
    let request = page_request(&visitor)?;
    let has_totals = match visitor.parameters.first(TOTALS) {
        None | Some("no") => false,
        Some("yes") => true,
        Some(_) => return Err(Failure::bad_request("totals must be yes or no.")),
    };
    let query = visitor.restrict(filters.query());
    let history = visitor.history();
    let mut page = history
        .page_run_summaries(&query, ListOrder::NewestFirst, &request)
        .await?;
    let runs = page.items.iter_mut();
    let parents = runs.map(|run| &mut run.parent_run_id).collect();
    visitor.hide_parents(parents).await?;
    let mut runs = json!(page.items);
    if has_totals {
        let totals = visitor.subtree_totals(&page.items).await?;
        for (record, run) in runs.as_array_mut().into_iter().flatten().zip(&page.items) {
            record[SUBTREE] = json!(totals.get(&run.id));
        }
    }
    Ok(layout::json(&json!({
        "runs": runs,
        "next": page.next,
        "previous": page.previous,
    })))
}
