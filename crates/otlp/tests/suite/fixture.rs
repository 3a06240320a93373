use std::mem::take;
use std::slice;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Request, StatusCode};
use chrono::{DateTime, Utc};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord as ProtoLog, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan};
use prost::Message;
use runtrail_audit::{Clock, Error, Result};
use runtrail_otlp::{RouterOptions, Sink, router};
use runtrail_telemetry::{LogRecord, Span};
use serde::Serialize;
use serde_json::Value;
use tower::ServiceExt;

pub(crate) const PROTOBUF: &str = "application/x-protobuf";
pub(crate) const JSON: &str = "application/json";

/// 2023-11-14 22:13:20 UTC.
pub(crate) const START_NANOS: u64 = 1_700_000_000_000_000_000;

/// Records what it gets, or fails.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) spans: Mutex<Vec<Span>>,
    pub(crate) logs: Mutex<Vec<LogRecord>>,
    pub(crate) failure: Option<Error>,
}

#[async_trait]
impl Sink for Recorder {
    async fn spans(&self, spans: Vec<Span>) -> Result<()> {
        assert!(!spans.is_empty(), "an empty call of the sink");
        self.ready().await?;
        self.spans.lock().unwrap().extend(spans);
        Ok(())
    }

    async fn logs(&self, logs: Vec<LogRecord>) -> Result<()> {
        assert!(!logs.is_empty(), "an empty call of the sink");
        self.ready().await?;
        self.logs.lock().unwrap().extend(logs);
        Ok(())
    }

    async fn ready(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        received_at()
    }
}

/// When every request is received.
pub(crate) fn received_at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A receiver and its sink.
pub(crate) struct Receiver {
    pub(crate) router: Router,
    sink: Arc<Recorder>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self::with(RouterOptions::default(), Recorder::default())
    }

    pub(crate) fn with(options: RouterOptions, sink: Recorder) -> Self {
        let sink = Arc::new(sink);
        let options = options.clock(Arc::new(FixedClock));
        Self {
            router: router(Arc::clone(&sink) as Arc<dyn Sink>, options),
            sink,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        }
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Answer {
        self.send(post(path, content_type, body)).await
    }

    /// Sends traces, which must be accepted in full, and returns the spans that were stored.
    pub(crate) async fn spans_of(&self, content_type: &str, body: impl Into<Body>) -> Vec<Span> {
        let answer = self.post("/v1/traces", content_type, body).await;
        answer.assert_success(content_type);
        self.take_spans()
    }

    /// Sends logs, which must be accepted in full, and returns the logs that were stored.
    pub(crate) async fn logs_of(
        &self,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Vec<LogRecord> {
        let answer = self.post("/v1/logs", content_type, body).await;
        answer.assert_success(content_type);
        self.take_logs()
    }

    pub(crate) fn take_spans(&self) -> Vec<Span> {
        take(&mut *self.sink.spans.lock().unwrap())
    }

    pub(crate) fn take_logs(&self) -> Vec<LogRecord> {
        take(&mut *self.sink.logs.lock().unwrap())
    }
}

/// Returns the only item.
pub(crate) fn only<T>(items: Vec<T>) -> T {
    let [item] = <[T; 1]>::try_from(items).ok().expect("exactly one item");
    item
}

pub(crate) fn post(path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header(HOST, "localhost:4318")
        .header(CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap()
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|it| it.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The status of an error, in the encoding that the content type names.
    pub(crate) fn rpc_status(&self) -> RpcStatus {
        if self.header("content-type") == Some(PROTOBUF) {
            return RpcStatus::decode(&*self.body).unwrap();
        }
        assert_eq!(self.header("content-type"), Some(JSON));
        let json = self.json();
        RpcStatus {
            code: i32::try_from(json["code"].as_i64().unwrap()).unwrap(),
            message: json["message"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn assert_success(&self, content_type: &str) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, StatusCode::OK, "{body}");
        assert_eq!(self.header("content-type"), Some(content_type));
        let expected = if content_type == JSON { "{}" } else { "" };
        assert_eq!(body, expected);
    }

    pub(crate) fn assert_error(&self, status: StatusCode, content_type: &str, code: i32) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        assert_eq!(self.header("content-type"), Some(content_type));
        let answer = self.rpc_status();
        assert_eq!(answer.code, code);
        assert!(!answer.message.is_empty());
    }
}

/// Encodes an official message.
pub(crate) fn encode(message: &(impl Message + Serialize), content_type: &str) -> Vec<u8> {
    match content_type {
        JSON => serde_json::to_vec(message).unwrap(),
        _ => message.encode_to_vec(),
    }
}

/// A span with these last bytes of its ids.
pub(crate) fn span(trace: u8, span: u8) -> ProtoSpan {
    ProtoSpan {
        trace_id: [[0; 15].as_slice(), &[trace]].concat(),
        span_id: [[0; 7].as_slice(), &[span]].concat(),
        name: "chat".to_owned(),
        start_time_unix_nano: START_NANOS,
        end_time_unix_nano: START_NANOS + 1_500_000_000,
        ..ProtoSpan::default()
    }
}

pub(crate) fn log(body: &str) -> ProtoLog {
    ProtoLog {
        time_unix_nano: START_NANOS,
        body: Some(any_value(ProtoValue::StringValue(body.to_owned()))),
        ..ProtoLog::default()
    }
}

pub(crate) fn any_value(value: ProtoValue) -> AnyValue {
    AnyValue { value: Some(value) }
}

pub(crate) fn attribute(key: &str, value: ProtoValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any_value(value)),
        ..KeyValue::default()
    }
}

pub(crate) fn traces(spans: Vec<ProtoSpan>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

pub(crate) fn logs(log_records: Vec<ProtoLog>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource()),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn resource() -> Resource {
    Resource {
        attributes: vec![attribute(
            "service.name",
            ProtoValue::StringValue("help-desk".to_owned()),
        )],
        ..Resource::default()
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "tests".to_owned(),
        ..InstrumentationScope::default()
    }
}

/// A request for one span with these fields, in JSON.
pub(crate) fn json_span(fields: &Value) -> String {
    json_spans(slice::from_ref(fields))
}

pub(crate) fn json_spans(spans: &[Value]) -> String {
    let scope = serde_json::json!({ "spans": spans });
    serde_json::json!({ "resourceSpans": [{ "scopeSpans": [scope] }] }).to_string()
}
