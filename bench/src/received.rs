//! Spans received over OTLP/HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use runtrail_audit::{RunFilter, Storage};
use runtrail_otlp::{Receiver, ReceiverOptions, RouterOptions, router};
use runtrail_store::AuditStore;
use tokio::net::TcpListener;

use crate::http::Http;
use crate::rounds::{Baseline, compare, turn};
use crate::{Comparisons, Setup, step};

pub(crate) const SENDERS: usize = 8;

/// Batches of each sender in a round.
const BATCHES: usize = 10;

pub(crate) const SPANS_PER_BATCH: usize = 512;

/// An agent, and a model call and a tool call in turn.
pub(crate) const SPANS_PER_TRACE: usize = 16;

const TRACES_PER_BATCH: usize = SPANS_PER_BATCH / SPANS_PER_TRACE;

/// The spans of the large trace.
const LARGE: usize = 80_000;

pub(crate) async fn measure(setup: &Setup) -> Result<Comparisons> {
    let mut comparisons = Vec::new();
    let name = "SQLite, spans received, 8 senders";
    if setup.is_selected(name) {
        let received = || async { received(setup).await };
        let limit = || async { Ok(20_000.0) };
        let baseline = Baseline::new("a limit", 1.0, turn(limit));
        let measured = compare(setup.rounds, name, turn(received), vec![baseline]);
        comparisons.extend(step(name, measured).await?);
    }
    let name = "SQLite, a trace of 80,000 spans, received and stored";
    if setup.is_selected(name) {
        let received = || async { received_large(setup).await };
        let limit = || async { Ok(5_000.0) };
        let baseline = Baseline::new("a limit", None, turn(limit));
        let measured = compare(1, name, turn(received), vec![baseline]);
        comparisons.extend(step(name, measured).await?);
    }
    Ok(comparisons)
}

/// A receiver on a new file.
struct Server {
    store: AuditStore,
    receiver: Receiver,
    address: SocketAddr,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start(setup: &Setup) -> Result<Self> {
        let folder = tempfile::tempdir_in(setup.folder.path())?;
        let file = folder.path().join("runs.db");
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let store = AuditStore::connect(url).await?;
        store.initialize().await?;
        let receiver = Receiver::new(Arc::new(store.clone()), ReceiverOptions::new());
        let routes = router(Arc::new(receiver.clone()), RouterOptions::default());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(axum::serve(listener, routes).into_future());
        Ok(Self {
            store,
            receiver,
            address,
            task,
            _folder: folder,
        })
    }

    /// Waits until everything is stored.
    async fn finish(&self) -> Result<u64> {
        self.receiver.finish(Duration::from_secs(120)).await?;
        Ok(self.store.count_runs_filtered(&RunFilter::new()).await?)
    }

    async fn stop(self) -> Result<()> {
        self.task.abort();
        Ok(self.store.close().await?)
    }
}

/// Returns the rate at which spans are acknowledged.
async fn received(setup: &Setup) -> Result<f64> {
    let server = Server::start(setup).await?;
    let bodies: Vec<Vec<_>> = (0..SENDERS)
        .map(|_| (0..BATCHES).map(|_| batch(setup).encode_to_vec()).collect())
        .collect();
    let begun = Instant::now();
    let senders: Vec<_> = bodies
        .into_iter()
        .map(|bodies| tokio::spawn(send(server.address, bodies)))
        .collect();
    for sender in senders {
        sender.await??;
    }
    let took = begun.elapsed();
    let runs = server.finish().await?;
    let stored = begun.elapsed();
    let spans = SENDERS * BATCHES * SPANS_PER_BATCH;
    ensure!(runs as usize == spans / SPANS_PER_TRACE, "{runs} runs");
    eprintln!(
        "{spans} spans acknowledged in {:.2} s, stored as runs and events after {:.2} s",
        took.as_secs_f64(),
        stored.as_secs_f64()
    );
    server.stop().await?;
    Ok(spans as f64 / took.as_secs_f64())
}

/// Returns the rate at which a large trace is received and stored. Its root comes last.
async fn received_large(setup: &Setup) -> Result<f64> {
    let server = Server::start(setup).await?;
    let trace_id: Vec<u8> = uuid::Uuid::now_v7().into_bytes().into();
    let root = span_id();
    let mut spans: Vec<_> = (1..LARGE)
        .map(|number| call(setup, &trace_id, &root, number))
        .collect();
    spans.push(agent(&trace_id, root));
    let mut bodies = Vec::new();
    while !spans.is_empty() {
        let rest = spans.split_off(SPANS_PER_BATCH.min(spans.len()));
        bodies.push(request(std::mem::replace(&mut spans, rest)).encode_to_vec());
    }
    let begun = Instant::now();
    send(server.address, bodies).await?;
    let acknowledged = begun.elapsed();
    let runs = server.finish().await?;
    let took = begun.elapsed();
    ensure!(runs == 1, "{runs} runs");
    eprintln!(
        "{LARGE} spans acknowledged in {:.2} s, stored after {:.2} s",
        acknowledged.as_secs_f64(),
        took.as_secs_f64()
    );
    server.stop().await?;
    Ok(LARGE as f64 / took.as_secs_f64())
}

/// Sends requests on one connection, each after the answer to the one before.
pub(crate) async fn send(address: SocketAddr, bodies: Vec<Vec<u8>>) -> Result<()> {
    let mut http = Http::connect(address).await?;
    for body in bodies {
        http.post("/v1/traces", "application/x-protobuf", &body)
            .await?;
    }
    Ok(())
}

pub(crate) fn batch(setup: &Setup) -> ExportTraceServiceRequest {
    let mut spans = Vec::with_capacity(SPANS_PER_BATCH);
    for _ in 0..TRACES_PER_BATCH {
        let trace_id: Vec<u8> = uuid::Uuid::now_v7().into_bytes().into();
        let root = span_id();
        let calls = 1..SPANS_PER_TRACE;
        spans.extend(calls.map(|number| call(setup, &trace_id, &root, number)));
        spans.push(agent(&trace_id, root));
    }
    request(spans)
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans {
        spans,
        ..ScopeSpans::default()
    }];
    let resource_spans = vec![ResourceSpans {
        resource: Some(Resource {
            attributes: vec![text("service.name", "bench")],
            ..Resource::default()
        }),
        scope_spans,
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }
}

fn span_id() -> Vec<u8> {
    fastrand::u64(1..).to_be_bytes().into()
}

const BEGIN: u64 = 1_790_000_000_000_000_000;

fn agent(trace_id: &[u8], span_id: Vec<u8>) -> Span {
    Span {
        trace_id: trace_id.into(),
        span_id,
        name: "invoke_agent helper".into(),
        start_time_unix_nano: BEGIN,
        end_time_unix_nano: BEGIN + 100_000_000_000,
        attributes: vec![
            text("gen_ai.operation.name", "invoke_agent"),
            text("gen_ai.agent.name", "helper"),
            text("gen_ai.conversation.id", "conversation-1"),
        ],
        ..Span::default()
    }
}

/// A model call for an odd number, and a tool call for an even one.
fn call(setup: &Setup, trace_id: &[u8], parent: &[u8], number: usize) -> Span {
    let begin = BEGIN + number as u64 * 1_000_000;
    let content = setup.payloads[number % setup.payloads.len()].to_string();
    let attributes = match number % 2 {
        0 => vec![
            text("gen_ai.operation.name", "execute_tool"),
            text("gen_ai.tool.name", "search"),
            text("gen_ai.tool.call.id", &format!("call-{number}")),
            text(
                "gen_ai.tool.call.arguments",
                r#"{"query":"flights to Boston"}"#,
            ),
            text("gen_ai.tool.call.result", &content),
        ],
        _ => vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", "anthropic"),
            text("gen_ai.request.model", "claude-sonnet-4-5"),
            text("gen_ai.response.model", "claude-sonnet-4-5"),
            text("gen_ai.response.id", &format!("message-{number}")),
            number_of("gen_ai.usage.input_tokens", 12_400),
            number_of("gen_ai.usage.cache_read.input_tokens", 11_000),
            number_of("gen_ai.usage.output_tokens", 310),
            text("gen_ai.output.messages", &content),
        ],
    };
    Span {
        trace_id: trace_id.into(),
        span_id: span_id(),
        parent_span_id: parent.into(),
        name: "call".into(),
        start_time_unix_nano: begin,
        end_time_unix_nano: begin + 900_000,
        attributes,
        ..Span::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number_of(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
