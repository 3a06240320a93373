use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use axum::routing::get;
use runtrail_otlp::{RouterOptions, guarded};
use tower::ServiceExt;

use crate::fixture::*;

const APP: &str = "https://app.example.com";

fn with_headers(headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = post("/v1/traces", JSON, encode(&traces(vec![span(1, 1)]), JSON));
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_token_is_required_if_there_is_one() {
    let options = RouterOptions::default().bearer_token("secret");
    let receiver = Receiver::with(options, Recorder::default());
    // The token as the password of a browser.
    let password = "Basic dXNlcjpzZWNyZXQ=";
    for authorization in ["Bearer secret", "bearer secret", "BEARER  secret", password] {
        let request = with_headers(&[("authorization", authorization)]);
        receiver.send(request).await.assert_success(JSON);
    }
    receiver.take_spans();
    for authorization in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer secre",
        "Bearer secrets",
        "Bearer SECRET",
        "Basic secret",
        "secret",
    ] {
        let request = with_headers(&[("authorization", authorization)]);
        let answer = receiver.send(request).await;
        answer.assert_error(StatusCode::UNAUTHORIZED, JSON, 16);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let answer = receiver.send(with_headers(&[])).await;
    answer.assert_error(StatusCode::UNAUTHORIZED, JSON, 16);
    assert_eq!(receiver.take_spans(), []);
}

#[tokio::test]
async fn no_request_has_an_empty_token() {
    let options = RouterOptions::default().bearer_token("");
    let receiver = Receiver::with(options, Recorder::default());
    for authorization in ["Bearer ", "Bearer  "] {
        let request = with_headers(&[("authorization", authorization)]);
        let answer = receiver.send(request).await;
        answer.assert_error(StatusCode::UNAUTHORIZED, JSON, 16);
    }
}

#[test]
fn a_token_is_not_in_debug_output() {
    let options = RouterOptions::default().bearer_token("secret");
    assert!(!format!("{options:?}").contains("secret"));
}

#[tokio::test]
async fn a_request_must_be_for_this_machine() {
    let receiver = Receiver::new();
    for host in ["localhost", "127.0.0.1:4318", "[::1]:4318"] {
        let answer = receiver.send(with_headers(&[("host", host)])).await;
        answer.assert_success(JSON);
    }
    for host in [
        "evil.example.com",
        "localhost.example.com:4318",
        "10.0.0.1",
        "",
    ] {
        let answer = receiver.send(with_headers(&[("host", host)])).await;
        answer.assert_error(StatusCode::FORBIDDEN, JSON, 7);
    }
    let mut two_hosts = with_headers(&[]);
    let headers = two_hosts.headers_mut();
    headers.append("host", "evil.example.com".parse().unwrap());
    let mut no_host = with_headers(&[]);
    no_host.headers_mut().remove("host");
    for request in [two_hosts, no_host] {
        let answer = receiver.send(request).await;
        answer.assert_error(StatusCode::FORBIDDEN, JSON, 7);
    }
    // As over HTTP/2.
    let mut authority = with_headers(&[]);
    authority.headers_mut().remove("host");
    *authority.uri_mut() = "http://localhost:4318/v1/traces".parse().unwrap();
    receiver.send(authority).await.assert_success(JSON);
}

#[tokio::test]
async fn other_hosts_are_allowed_by_name_or_with_a_token() {
    let named = RouterOptions::default().allow_host("host.docker.internal");
    let receiver = Receiver::with(named, Recorder::default());
    let docker = [("host", "host.docker.internal:4318")];
    receiver
        .send(with_headers(&docker))
        .await
        .assert_success(JSON);

    let any = RouterOptions::default().allow_any_host();
    let with_token = Receiver::with(any.clone().bearer_token("secret"), Recorder::default());
    let without = Receiver::with(any, Recorder::default());
    let headers = [("host", "example.com"), ("authorization", "Bearer secret")];
    with_token
        .send(with_headers(&headers))
        .await
        .assert_success(JSON);
    let answer = without.send(with_headers(&headers)).await;
    answer.assert_error(StatusCode::FORBIDDEN, JSON, 7);
}

#[tokio::test]
async fn browsers_of_other_origins_are_refused() {
    let receiver = Receiver::new();
    for origin in [APP, "null", "http://localhost:4318"] {
        let answer = receiver.send(with_headers(&[("origin", origin)])).await;
        answer.assert_error(StatusCode::FORBIDDEN, JSON, 7);
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let answer = receiver.send(preflight(origin)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert_eq!(receiver.take_spans(), []);
}

fn preflight(origin: &str) -> Request<Body> {
    let mut request = with_headers(&[
        ("origin", origin),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ]);
    *request.method_mut() = Method::OPTIONS;
    request
}

#[tokio::test]
async fn pages_of_an_allowed_origin_may_send() {
    let options = RouterOptions::default()
        .allow_origin(APP)
        .bearer_token("secret");
    let receiver = Receiver::with(options, Recorder::default());
    // A preflight has no token.
    let answer = receiver.send(preflight(APP)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    for (name, value) in [
        ("access-control-allow-origin", APP),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "authorization,content-type"),
        ("vary", "origin"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    let headers = [("origin", APP), ("authorization", "Bearer secret")];
    let answer = receiver.send(with_headers(&headers)).await;
    answer.assert_success(JSON);
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
    assert_eq!(receiver.take_spans().len(), 1);

    // A page can read an error only with this header.
    let answer = receiver.send(with_headers(&[("origin", APP)])).await;
    answer.assert_error(StatusCode::UNAUTHORIZED, JSON, 16);
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));

    let answer = receiver
        .send(preflight("https://app.example.com.evil.org"))
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

/// Requests a page on the address of a receiver that requires a token.
async fn page(path: &str, headers: &[(&'static str, &str)]) -> Response<Body> {
    let options = RouterOptions::default()
        .allow_origin(APP)
        .bearer_token("secret");
    let routes = Router::new().route("/", get(async || "the page"));
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    guarded(routes, &options).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn a_browser_asks_for_the_token_of_a_page() {
    let host = ("host", "localhost:4318");
    for path in ["/", "/unknown"] {
        let refused = page(path, &[host]).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let question = refused.headers()["www-authenticate"].to_str().unwrap();
        assert!(
            question.starts_with("Basic realm=\"Runtrail\""),
            "{question}"
        );
    }
    for authorization in ["Basic dXNlcjpzZWNyZXQ=", "Bearer secret"] {
        let shown = page("/", &[host, ("authorization", authorization)]).await;
        assert_eq!(shown.status(), StatusCode::OK, "{authorization}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_cannot_read_a_page() {
    let password = ("authorization", "Basic dXNlcjpzZWNyZXQ=");
    let host = ("host", "localhost:4318");
    for (origin, status) in [
        ("http://localhost:4318", StatusCode::OK),
        // It may send telemetry, and no more.
        (APP, StatusCode::FORBIDDEN),
        ("null", StatusCode::FORBIDDEN),
    ] {
        let answer = page("/", &[host, password, ("origin", origin)]).await;
        assert_eq!(answer.status(), status, "{origin}");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
    let elsewhere = page("/", &[("host", "evil.example.com"), password]).await;
    assert_eq!(elsewhere.status(), StatusCode::FORBIDDEN);
}
