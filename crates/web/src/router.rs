use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Request};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use runtrail_audit::History;

use crate::error::{Failure, Kind, Result};
use crate::visitor::{self, Site, Visitor};
use crate::{WebOptions, assets, headers, pages};

/// Creates a router that shows a history.
///
/// All its routes are for GET and HEAD: it never writes. Its links are relative, so it can be
/// mounted at any path, with or without a prefix:
///
/// ```
/// use std::sync::Arc;
///
/// use axum::Router;
/// use runtrail_audit::History;
/// use runtrail_web::{FullAccess, WebOptions, router};
///
/// fn app(history: Arc<dyn History>) -> Router {
///     let page = router(history, WebOptions::new(FullAccess));
///     Router::new().nest_service("/history", page)
/// }
/// ```
///
/// Every response has a Content-Security-Policy that allows only what the router itself serves.
/// If the database doesn't answer, the response is 503.
pub fn router(history: Arc<dyn History>, options: WebOptions) -> Router {
    let site = Arc::new(Site { history, options });
    let mut router = Router::new().route(assets::PATH, get(assets::serve));
    for route in routes() {
        let (site, route) = (Arc::clone(&site), Arc::new(route));
        let path = route.path;
        let handler = async move |request: Request| route.answer(&site, request).await;
        router = router.route(path, get(handler));
    }
    router
        .fallback(no_such_page)
        .layer(map_response(headers::secure))
}

/// A path, and what answers it.
struct Route {
    path: &'static str,
    kind: Kind,
    handler: Handler,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response>> + Send>>;
type Handler = Box<dyn Fn(Visitor) -> Answer + Send + Sync>;

/// All routes but that of the assets.
fn routes() -> Vec<Route> {
    use Kind::{Fragment, Page};

    vec![
        Route::new("/", Page, pages::runs::show),
        Route::new("/runs/{run}", Page, pages::run::show),
        Route::new("/runs/{run}/waterfall", Fragment, pages::run::waterfall),
        Route::new("/runs/{run}/events", Fragment, pages::run::events),
        Route::new("/runs/{run}/events/{sequence}", Page, pages::run::event),
    ]
}

impl Route {
    fn new<F, A>(path: &'static str, kind: Kind, handler: F) -> Self
    where
        F: Fn(Visitor) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Response>> + Send + 'static,
    {
        Self {
            path,
            kind,
            handler: Box::new(move |visitor| Box::pin(handler(visitor))),
        }
    }

    async fn answer(&self, site: &Arc<Site>, request: Request) -> Response {
        let (parts, _) = request.into_parts();
        if self.path == "/"
            && let Some(redirect) = redirect(&parts)
        {
            return redirect;
        }
        let root = visitor::root(parts.uri.path());
        let answer = match Visitor::admit(site, parts).await {
            Ok(visitor) => (self.handler)(visitor).await,
            Err(failure) => Err(failure),
        };
        answer.unwrap_or_else(|failure| failure.response(self.kind, &root))
    }
}

/// Adds the slash to the path at which the page is mounted, without which relative links would lead
/// elsewhere.
fn redirect(parts: &Parts) -> Option<Response> {
    let OriginalUri(uri) = parts.extensions.get()?;
    let name = uri.path().rsplit('/').next().filter(|name| !name.is_empty())?;
    let query = uri.query().map(|query| format!("?{query}"));
    // With the dot, no name can be read as a scheme.
    let location = format!("./{name}/{}", query.unwrap_or_default());
    Some((StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response())
}

async fn no_such_page(uri: Uri) -> Response {
    let failure = Failure::not_found("There is no such page.");
    failure.response(Kind::Page, &visitor::root(uri.path()))
}
