use std::future::pending;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::header::HOST;
use axum::http::{Method, Request, StatusCode};
use runtrail_audit::{Error, Result};
use runtrail_otlp::{RouterOptions, Sink, router};
use runtrail_telemetry::{LogRecord, Span};
use tower::ServiceExt;

use crate::fixture::*;

#[tokio::test]
async fn metrics_are_acknowledged_and_dropped() {
    let receiver = Receiver::new();
    for content_type in [PROTOBUF, JSON] {
        let answer = receiver.post("/v1/metrics", content_type, "anything").await;
        answer.assert_success(content_type);
    }
    assert_eq!(receiver.take_spans(), []);
}

#[tokio::test]
async fn a_body_that_cannot_be_decoded_is_a_bad_request() {
    let receiver = Receiver::new();
    let nested = "[".repeat(1 << 20);
    let nested_field = format!("{{\"field\":{nested}");
    for (content_type, body) in [
        (JSON, nested.as_str()),
        (JSON, nested_field.as_str()),
        (JSON, "{\"resourceSpans\":[{}"),
        (JSON, "resource"),
        (JSON, "{\"resourceSpans\":7,\"resourceLogs\":7}"),
        (PROTOBUF, "not protobuf"),
        (PROTOBUF, "\n\u{7f}"),
    ] {
        for path in ["/v1/traces", "/v1/logs", "/"] {
            let answer = receiver.post(path, content_type, body.to_owned()).await;
            answer.assert_error(StatusCode::BAD_REQUEST, content_type, 3);
        }
    }
}

#[tokio::test]
async fn the_content_type_must_be_one_of_otlp() {
    let receiver = Receiver::new();
    let body = encode(&traces(vec![span(1, 1)]), JSON);
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
    ] {
        let answer = receiver
            .post("/v1/traces", content_type, body.clone())
            .await;
        answer.assert_success(JSON);
        assert_eq!(receiver.take_spans().len(), 1);
    }
    for content_type in [
        "text/plain",
        "application/grpc",
        "",
        "application/json-patch",
    ] {
        let answer = receiver
            .post("/v1/traces", content_type, body.clone())
            .await;
        answer.assert_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, JSON, 3);
    }
    let request = Request::post("/v1/traces").header(HOST, "localhost");
    let answer = receiver.send(request.body(Body::empty()).unwrap()).await;
    answer.assert_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, JSON, 3);
}

#[tokio::test]
async fn after_any_failure_of_the_store_the_sender_repeats() {
    let failures = [
        Error::Busy {
            source: "secret detail".into(),
        },
        Error::ReadOnly {
            source: "secret detail".into(),
        },
        Error::invalid("secret", "detail"),
    ];
    for failure in failures {
        let sink = Recorder {
            failure: Some(failure),
            ..Recorder::default()
        };
        let receiver = Receiver::with(RouterOptions::default(), sink);
        for content_type in [PROTOBUF, JSON] {
            let traces = encode(&traces(vec![span(1, 1)]), content_type);
            let logs = encode(&logs(vec![log("hello")]), content_type);
            for (path, body) in [("/v1/traces", traces), ("/v1/logs", logs)] {
                let answer = receiver.post(path, content_type, body).await;
                answer.assert_error(StatusCode::SERVICE_UNAVAILABLE, content_type, 14);
                assert_eq!(answer.header("retry-after"), Some("1"));
                let message = answer.rpc_status().message;
                assert!(!message.contains("secret"), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn variants_of_the_paths_are_the_same() {
    let receiver = Receiver::new();
    let traces = encode(&traces(vec![span(1, 1)]), JSON);
    let logs = encode(&logs(vec![log("hello")]), JSON);
    for prefix in ["", "/v1", "/v1/traces/v1", "/v1/logs/v1", "/otlp/v1"] {
        for slash in ["", "/"] {
            let path = format!("{prefix}/traces{slash}");
            let answer = receiver.post(&path, JSON, traces.clone()).await;
            answer.assert_success(JSON);
            assert_eq!(receiver.take_spans().len(), 1, "{path}");

            let path = format!("{prefix}/logs{slash}");
            let answer = receiver.post(&path, JSON, logs.clone()).await;
            answer.assert_success(JSON);
            assert_eq!(receiver.take_logs().len(), 1, "{path}");

            let path = format!("{prefix}/metrics{slash}");
            receiver.post(&path, JSON, "{}").await.assert_success(JSON);
        }
    }
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let receiver = Receiver::new();
    for path in ["/", "/v1/traces", "/v1/logs", "/v1/metrics"] {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let request = Request::builder().method(method.clone()).uri(path);
            let request = request.header(HOST, "localhost").body(Body::empty());
            let answer = receiver.send(request.unwrap()).await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
            assert_eq!(answer.header("allow"), Some("POST"));
        }
    }
    for path in ["/v1", "/v1/profiles", "/v2/traces", "/v1/traces/x"] {
        let answer = receiver.post(path, JSON, "{}").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn probes_need_neither_host_nor_token() {
    let options = || RouterOptions::default().bearer_token("secret");
    let probe = |path: &str| {
        let request = Request::get(path).header(HOST, "10.0.0.7");
        request.body(Body::empty()).unwrap()
    };
    let receiver = Receiver::with(options(), Recorder::default());
    assert_eq!(
        receiver.send(probe("/healthz")).await.status,
        StatusCode::OK
    );
    assert_eq!(receiver.send(probe("/readyz")).await.status, StatusCode::OK);

    let sink = Recorder {
        failure: Some(Error::SchemaMissing),
        ..Recorder::default()
    };
    let receiver = Receiver::with(options(), sink);
    assert_eq!(
        receiver.send(probe("/healthz")).await.status,
        StatusCode::OK
    );
    let answer = receiver.send(probe("/readyz")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body, b"not ready\n");
}

/// A sink whose store doesn't answer.
pub(crate) struct Stuck;

#[async_trait]
impl Sink for Stuck {
    async fn spans(&self, _: Vec<Span>) -> Result<()> {
        pending().await
    }

    async fn logs(&self, _: Vec<LogRecord>) -> Result<()> {
        pending().await
    }

    async fn ready(&self) -> Result<()> {
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_not_ready() {
    let router = router(Arc::new(Stuck), RouterOptions::default());
    let request = Request::get("/readyz").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}
