//! How a request is answered.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{OriginalUri, Request};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use crate::api::Endpoint;
use crate::error::{Failure, Kind, Result};
use crate::filters::Parameter;
use crate::visitor::{self, Site, Visitor};

/// A path, and what answers it.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    kind: Kind,
    /// The only accepted parameters; `None` ignores those that it doesn't know.
    parameters: Option<Vec<Parameter>>,
    handler: Handler,
}

pub(crate) type Handler = Box<dyn Fn(Visitor) -> Answer + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Result<Response>> + Send>>;

pub(crate) fn handler<F, A>(handler: F) -> Handler
where
    F: Fn(Visitor) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Response>> + Send + 'static,
{
    Box::new(move |visitor| Box::pin(handler(visitor)))
}

impl Route {
    pub(crate) fn new<F, A>(path: &'static str, kind: Kind, answer: F) -> Self
    where
        F: Fn(Visitor) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Response>> + Send + 'static,
    {
        Self {
            path,
            kind,
            parameters: None,
            handler: handler(answer),
        }
    }

    pub(crate) async fn answer(&self, site: &Arc<Site>, request: Request) -> Response {
        let (parts, _) = request.into_parts();
        if self.path == "/"
            && let Some(redirect) = redirect(&parts)
        {
            return redirect;
        }
        let root = visitor::root(parts.uri.path());
        let answer = self.handle(site, parts).await;
        answer.unwrap_or_else(|failure| failure.response(self.kind, &root))
    }

    async fn handle(&self, site: &Arc<Site>, parts: Parts) -> Result<Response> {
        let visitor = Visitor::admit(site, parts).await?;
        if let Some(parameters) = &self.parameters {
            let is_known = |name: &str| parameters.iter().any(|(known, _)| *known == name);
            let mut names = visitor.parameters.iter().map(|(name, _)| name);
            if let Some(unknown) = names.find(|name| !is_known(name)) {
                // A misspelt filter would otherwise match every run.
                return Err(Failure::bad_request(format!(
                    "There is no parameter {unknown}."
                )));
            }
        }
        (self.handler)(visitor).await
    }
}

impl From<Endpoint> for Route {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            path: endpoint.path,
            kind: Kind::Json,
            parameters: Some(endpoint.parameters),
            handler: endpoint.handler,
        }
    }
}

/// Adds the slash to the path at which the page is mounted, without which relative links would lead
/// elsewhere.
fn redirect(parts: &Parts) -> Option<Response> {
    let OriginalUri(uri) = parts.extensions.get()?;
    let name = uri
        .path()
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty())?;
    let query = uri.query().map(|query| format!("?{query}"));
    // With the dot, no name can be read as a scheme.
    let location = format!("./{name}/{}", query.unwrap_or_default());
    Some((StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response())
}
