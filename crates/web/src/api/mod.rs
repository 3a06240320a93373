//! The history as JSON.

mod document;
mod run;
mod runs;
mod statistics;

use axum::response::Response;
use runtrail_audit::{Cursor, PageRequest};

use crate::error::{Failure, Result};
use crate::filters::{CURSOR, PARAMETERS, Parameter};
use crate::layout;
use crate::route::{Handler, handler};
use crate::visitor::Visitor;

/// The path of the OpenAPI document.
pub(crate) const DOCUMENT: &str = "/api/v1/openapi.json";

const LIMIT: &str = "limit";

const PAGE: [Parameter; 2] = [
    (
        LIMIT,
        "The maximum number of records, from 1 to 1000; 50 by default.",
    ),
    (
        CURSOR,
        "The `next` or `previous` of another page of the same list, with the same parameters.",
    ),
];

/// A path of the API, as the document describes it.
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    summary: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    /// The schema of the response.
    schema: &'static str,
    pub(crate) handler: Handler,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint {
            path: "/api/v1/runs",
            summary: "Lists runs, newest first, without texts and labels.",
            parameters: [&PARAMETERS[..], &runs::LIST, &PAGE].concat(),
            schema: "RunPage",
            handler: handler(runs::list),
        },
        Endpoint {
            path: "/api/v1/runs/{run}",
            summary: "Returns a run.",
            parameters: Vec::new(),
            schema: "Run",
            handler: handler(run::show),
        },
        Endpoint {
            path: "/api/v1/runs/{run}/events",
            summary: "Lists the events of a run.",
            parameters: [&run::EVENTS[..], &PAGE].concat(),
            schema: "EventPage",
            handler: handler(run::events),
        },
        Endpoint {
            path: "/api/v1/runs/{run}/tree",
            summary: "Lists a run and its descendants, newest first.",
            parameters: Vec::new(),
            schema: "Tree",
            handler: handler(run::tree),
        },
        Endpoint {
            path: "/api/v1/statistics",
            summary: "Returns statistics of runs, and of their model and tool calls.",
            parameters: [&PARAMETERS[..], &statistics::PARAMETERS].concat(),
            schema: "Statistics",
            handler: handler(statistics::show),
        },
    ]
}

/// Returns the OpenAPI document.
pub(crate) async fn document(_: Visitor) -> Result<Response> {
    Ok(layout::json(&document::of(&endpoints())))
}

fn page_request(visitor: &Visitor) -> Result<PageRequest> {
    let request = match visitor.parameters.first(LIMIT) {
        Some(limit) => PageRequest::first(
            limit
                .parse()
                .map_err(|_| Failure::bad_request("limit must be a number from 1 to 1000."))?,
        ),
        None => PageRequest::default(),
    };
    Ok(request.at(visitor.parameters.first(CURSOR).map(Cursor::from)))
}
