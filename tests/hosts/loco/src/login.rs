//! The application's own login, which the page knows nothing of.

use axum::Form;
use axum::extract::{Request, State};
use axum::http::header::SET_COOKIE;
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use loco_rs::Error;
use loco_rs::app::AppContext;
use loco_rs::auth::jwt::JWT;
use loco_rs::controller::extractor::auth::extract_jwt_from_request_parts;
use loco_rs::controller::{Routes, unauthorized};
use serde::Deserialize;

pub(crate) const COOKIE: &str = "session";
pub(crate) const OPERATOR: &str = "operator";

/// A real application has a table of users and hashes of their passwords.
const USERS: [(&str, &str); 3] = [
    ("alice", "low tide"),
    ("bob", "high tide"),
    (OPERATOR, "lighthouse"),
];

const FORM: &str = "<!doctype html><title>Log in</title><form method=post>\
    <input name=user aria-label=User><input name=password type=password aria-label=Password>\
    <button>Log in</button></form>";

/// The user who is logged in. [`require_login`] adds it to the request.
#[derive(Clone)]
pub(crate) struct User(pub(crate) String);

#[derive(Deserialize)]
struct Credentials {
    user: String,
    password: String,
}

pub(crate) fn routes() -> Routes {
    Routes::new().add("/login", get(async || Html(FORM)).post(log_in))
}

async fn log_in(
    State(ctx): State<AppContext>,
    Form(credentials): Form<Credentials>,
) -> loco_rs::Result<Response> {
    let given = (credentials.user.as_str(), credentials.password.as_str());
    if !USERS.contains(&given) {
        return unauthorized("wrong user or password");
    }
    let jwt = ctx.config.get_jwt_config()?;
    let claims = Default::default();
    let token = JWT::new(&jwt.secret).generate_token(jwt.expiration, credentials.user, claims);
    let token = token.map_err(Error::wrap)?;
    let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/history/")).into_response())
}

/// Sends visitors who aren't logged in to the login.
pub(crate) async fn require_login(
    State(ctx): State<AppContext>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    match extract_jwt_from_request_parts(&parts, &ctx) {
        Ok(jwt) => {
            parts.extensions.insert(User(jwt.claims.pid));
            next.run(Request::from_parts(parts, body)).await
        }
        Err(_) => Redirect::to("/login").into_response(),
    }
}
