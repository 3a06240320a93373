use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use runtrail_audit::History;

use crate::availability::Availability;
use crate::error::{Failure, Kind};
use crate::route::Route;
use crate::visitor::{self, Site};
use crate::{WebOptions, api, assets, headers, pages};

/// Creates a router that shows a history.
///
/// All its routes are for GET and HEAD: it never writes. Its links are relative, so it can be
/// mounted at any path, with or without a prefix. Mount it with `nest_service`: with `nest`, axum
/// doesn't answer the path that ends with a slash.
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
    let site = Arc::new(Site {
        history,
        options,
        availability: Availability::default(),
    });
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

/// All routes but that of the assets.
fn routes() -> Vec<Route> {
    use Kind::{Fragment, Page, Stream};

    let mut routes = vec![
        Route::new("/", Page, pages::runs::show),
        Route::new("/live", Stream, pages::runs::live),
        Route::new("/histogram", Fragment, pages::runs::show_histogram),
        Route::new("/runs/{run}", Page, pages::run::show),
        Route::new("/runs/{run}/waterfall", Fragment, pages::run::waterfall),
        Route::new("/runs/{run}/events", Fragment, pages::run::events),
        Route::new("/runs/{run}/live", Stream, pages::run::live),
        Route::new("/runs/{run}/events/{sequence}", Page, pages::run::event),
        Route::new("/statistics", Page, pages::statistics::show),
        Route::new("/compare", Page, pages::compare::show),
        Route::new(api::DOCUMENT, Kind::Json, api::document),
    ];
    routes.extend(api::endpoints().into_iter().map(Route::from));
    routes
}

async fn no_such_page(uri: Uri) -> Response {
    let failure = Failure::not_found("There is no such page.");
    failure.response(Kind::Page, &visitor::root(uri.path()))
}
