use axum::response::Response;
use chrono::Utc;
use runtrail_audit::{BucketWidth, Buckets, Dimension, StatisticsQuery};
use serde_json::json;

use crate::error::{Failure, Result};
use crate::filters::{Filters, Parameter};
use crate::layout;
use crate::visitor::Visitor;

const BY: &str = "by";
const EVERY: &str = "every";

pub(crate) const PARAMETERS: [Parameter; 2] = [
    (
        BY,
        "What to group by: skill, caller, channel, status, provider, model, or label:KEY; may be \
         repeated. By provider or model, there are only statistics of calls.",
    ),
    (
        EVERY,
        "Divides the statistics into hours, days, weeks or months (in UTC): hour, day, week or \
         month. It needs `from`.",
    ),
];

pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let filters = Filters::parse(&visitor.parameters, visitor.now)?.all_by_default();
    let dimensions: Vec<_> = visitor
        .parameters
        .all(BY)
        .map(dimension)
        .collect::<Result<_>>()?;
    let is_of_calls = dimensions
        .iter()
        .any(|it| matches!(it, Dimension::Provider | Dimension::Model));
    let runs = visitor.restrict(filters.query());
    let mut query = StatisticsQuery::of(runs).group_by(dimensions);
    query.buckets = buckets(&visitor, &filters)?;
    let history = visitor.history();
    let runs = match is_of_calls {
        true => None,
        false => Some(history.run_statistics(&query).await?),
    };
    let calls = history.call_statistics(&query).await?;
    Ok(layout::json(&json!({ "runs": runs, "calls": calls })))
}

fn dimension(text: &str) -> Result<Dimension> {
    Dimension::from_name(text)
        .ok_or_else(|| Failure::bad_request(format!("{text:?} can’t be grouped by.")))
}

fn buckets(visitor: &Visitor, filters: &Filters) -> Result<Option<Buckets>> {
    let width = match visitor.parameters.first(EVERY) {
        None => return Ok(None),
        Some("hour") => BucketWidth::Hours(1),
        Some("day") => BucketWidth::Days(1),
        Some("week") => BucketWidth::Weeks(1),
        Some("month") => BucketWidth::Months(1),
        Some(_) => {
            return Err(Failure::bad_request(
                "every must be hour, day, week or month.",
            ));
        }
    };
    let Some(from) = filters.from else {
        return Err(Failure::bad_request("every needs a from."));
    };
    let to = filters.to.unwrap_or(visitor.now);
    Ok(Some(Buckets::every(width, &Utc, from, to)?))
}
