//! Decides which requests reach the receiver.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::RouterOptions;
use crate::reply::{Encoding, Refusal};

/// The digest of a bearer token.
///
/// Comparing digests takes a time that depends on the digests alone, which an attacker can't choose
/// one byte at a time; and the token doesn't show up in debug output.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token([u8; 32]);

impl Token {
    pub(crate) fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Middleware: refuses a request, answers a preflight, or passes the request on.
pub(crate) async fn check(
    State(options): State<Arc<RouterOptions>>,
    request: Request,
    next: Next,
) -> Response {
    let refuse = |request: &Request, refusal: Refusal| {
        refusal.response(Encoding::of(request.headers()).unwrap_or(Encoding::Json))
    };
    if !is_host_allowed(&request, &options) {
        return refuse(&request, Refusal::new(StatusCode::FORBIDDEN, WRONG_HOST));
    }
    let origin = match request.headers().get(ORIGIN) {
        Some(origin) if !is_origin_allowed(origin, &options) => {
            return refuse(&request, Refusal::new(StatusCode::FORBIDDEN, WRONG_ORIGIN));
        }
        origin => origin.cloned(),
    };
    let mut response = if origin.is_some() && is_preflight(&request) {
        // Browsers send no token with a preflight.
        preflight(request.headers())
    } else if is_authorized(request.headers(), &options) {
        next.run(request).await
    } else {
        refuse(&request, Refusal::new(StatusCode::UNAUTHORIZED, NO_TOKEN))
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("retry-after"),
        );
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}

const WRONG_HOST: &str = "the receiver does not serve this host name";
const WRONG_ORIGIN: &str = "the receiver does not accept telemetry from this origin";
const NO_TOKEN: &str = "the request has no valid bearer token";

fn is_host_allowed(request: &Request, options: &RouterOptions) -> bool {
    if options.any_host && options.token.is_some() {
        return true;
    }
    let mut hosts = request.headers().get_all(HOST).iter().peekable();
    if hosts.peek().is_none() {
        // Over HTTP/2, the address of the request has the host.
        let authority = request.uri().authority();
        return authority.is_some_and(|it| is_allowed_name(it.as_str(), options));
    }
    hosts.all(|host| {
        let host = host.to_str();
        host.is_ok_and(|host| is_allowed_name(host, options))
    })
}

fn is_allowed_name(host: &str, options: &RouterOptions) -> bool {
    let name = without_port(host);
    let is_local = name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|it: Ipv4Addr| it.is_loopback())
        || in_brackets(name).is_some_and(|it| it.parse() == Ok(Ipv6Addr::LOCALHOST));
    is_local
        || options
            .hosts
            .iter()
            .any(|allowed| without_port(allowed).eq_ignore_ascii_case(name))
}

/// Removes the port of `host:port`. An IPv6 address with a port is in brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|it| it.is_ascii_digit())
                && (in_brackets(name).is_some() || !name.contains(':')) =>
        {
            name
        }
        _ => host,
    }
}

fn in_brackets(name: &str) -> Option<&str> {
    name.strip_prefix('[')?.strip_suffix(']')
}

fn is_origin_allowed(origin: &HeaderValue, options: &RouterOptions) -> bool {
    options
        .origins
        .iter()
        .any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Allows the headers that the page asks for: its origin is trusted, and exporters add their own.
fn preflight(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST"),
    );
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(requested) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
    }
    response
}

fn is_authorized(headers: &HeaderMap, options: &RouterOptions) -> bool {
    let Some(expected) = &options.token else {
        return true;
    };
    bearer(headers).is_some_and(|token| Token::new(token) == *expected)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        let options = RouterOptions::default().allow_host("Collector.internal:4318");
        for host in [
            "localhost",
            "LOCALHOST:4318",
            "127.0.0.1",
            "127.9.8.7:80",
            "[::1]",
            "[::1]:4318",
            "collector.internal",
            "collector.internal:80",
        ] {
            assert!(is_allowed_name(host, &options), "{host}");
        }
        for host in [
            "",
            ":4318",
            "localhost.example.com",
            "example.com:4318",
            "127.0.0.1.example.com",
            "0.0.0.0:4318",
            "[::2]:4318",
            "::1",
            "localhost:4318:80",
            "localhost:port",
            "evil@localhost",
        ] {
            assert!(!is_allowed_name(host, &options), "{host}");
        }
    }
}
