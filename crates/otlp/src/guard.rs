//! Decides which requests reach the receiver.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
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

/// Protects pages on the same address as the receiver, by the same options.
///
/// Requests must be addressed to an allowed host, and have the token if one is required: browsers
/// ask for it, and send it as the password of HTTP Basic authentication, with any user name.
/// Requests of pages from other origins are refused, even from those that
/// [may send telemetry](RouterOptions::allow_origin).
///
/// The guard covers every route and the fallback of this router.
pub fn guarded(router: Router, options: &RouterOptions) -> Router {
    let options = Arc::new(options.clone());
    router.layer(from_fn_with_state(options, check_page))
}

async fn check_page(
    State(options): State<Arc<RouterOptions>>,
    request: Request,
    next: Next,
) -> Response {
    let refuse = |status, reason| (status, format!("{reason}\n")).into_response();
    if !is_host_allowed(&request, &options) {
        return refuse(StatusCode::FORBIDDEN, WRONG_HOST);
    }
    if !is_own_origin(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, WRONG_PAGE_ORIGIN);
    }
    if !is_authorized(request.headers(), &options) {
        let mut response = refuse(StatusCode::UNAUTHORIZED, NO_PASSWORD);
        let ask = HeaderValue::from_static(r#"Basic realm="Runtrail", charset="UTF-8""#);
        response.headers_mut().insert(WWW_AUTHENTICATE, ask);
        return response;
    }
    next.run(request).await
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

const WRONG_HOST: &str = "this server does not serve this host name";
const WRONG_PAGE_ORIGIN: &str = "pages from other origins are refused";
const NO_PASSWORD: &str = "give the token as the password, with any user name";
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

/// Whether a page of the same server has sent the request. Browsers leave out the origin of most
/// such requests.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let origin = origin.as_bytes();
    let authority = [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find_map(|scheme| origin.strip_prefix(scheme));
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    authority.is_some_and(|it| host.is_some_and(|host| it.eq_ignore_ascii_case(host)))
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
    token(headers).is_some_and(|token| Token::new(&token) == *expected)
}

/// Returns the bearer token, or the password of a browser.
fn token(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let credentials = credentials.trim();
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        credentials.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(BASE64.decode(credentials).ok()?).ok()?;
        decoded.split_once(':')?.1.to_owned()
    } else {
        return None;
    };
    (!token.is_empty()).then_some(token)
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

    #[test]
    fn a_token_is_a_bearer_token_or_a_password() {
        let token_of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            token(&headers)
        };
        for (value, expected) in [
            ("Bearer secret", Some("secret")),
            ("bearer  secret ", Some("secret")),
            // user:secret, :secret, user:se:cret
            ("Basic dXNlcjpzZWNyZXQ=", Some("secret")),
            ("basic OnNlY3JldA==", Some("secret")),
            ("Basic dXNlcjpzZTpjcmV0", Some("se:cret")),
            // user:, user
            ("Basic dXNlcjo=", None),
            ("Basic dXNlcg==", None),
            ("Basic secret!", None),
            ("Bearer ", None),
            ("Digest secret", None),
        ] {
            assert_eq!(token_of(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn only_pages_of_the_same_server_have_its_origin() {
        let is_own = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("localhost:4318"));
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            is_own_origin(&headers)
        };
        assert!(is_own_origin(&HeaderMap::new()));
        assert!(is_own("http://localhost:4318") && is_own("https://LOCALHOST:4318"));
        for origin in [
            "null",
            "http://localhost",
            "http://localhost:4319",
            "http://evil",
        ] {
            assert!(!is_own(origin), "{origin}");
        }
    }
}
