use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use runtrail_audit::Clock;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::body::BodyReader;
use crate::guard;
use crate::reply::{Encoding, Refusal, Rejected, success};
use crate::wire::{self, Batch, Export, Target};
use crate::{RouterOptions, Sink};

/// The number of requests that are decoded and stored at the same time. Further ones wait as
/// bodies, which take less memory than their spans.
const MAX_DECODED: usize = 4;

const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// The paths before `/traces`, `/logs` and `/metrics`.
///
/// Exporters append `/v1/traces` to an endpoint for all signals, and take one for a single signal
/// as it is. Users mix these up, or copy the endpoint of another receiver.
const PREFIXES: [&str; 5] = ["", "/v1", "/v1/traces/v1", "/v1/logs/v1", "/otlp/v1"];

/// Creates a router that receives telemetry.
///
/// It has the routes `POST /v1/traces`, `/v1/logs` and `/v1/metrics`, some variants of them that
/// exporters use if their endpoint is set differently, and `GET /healthz` and `/readyz`, which no
/// guard protects. `POST /` accepts traces and logs, and tells them apart by their content.
///
/// The body is `application/x-protobuf` or `application/json`, and may be compressed with gzip.
/// Spans or logs that can't be decoded are rejected and reported to the sender, the others are
/// stored. If the sink fails, the router responds with 503, so the sender retries.
pub fn router(sink: Arc<dyn Sink>, options: RouterOptions) -> Router {
    let receiver = Arc::new(Receiver {
        sink,
        bodies: BodyReader::new(&options),
        decoding: Semaphore::new(MAX_DECODED),
        clock: Arc::clone(&options.clock),
    });
    let export_to = |target| {
        post(
            async move |State(receiver): State<Arc<Receiver>>, request: Request| {
                receiver.answer(target, request).await
            },
        )
    };
    let mut exports = Router::new().route("/", export_to(Target::Unknown));
    for prefix in PREFIXES {
        for (name, target) in [
            ("traces", Target::Traces),
            ("logs", Target::Logs),
            ("metrics", Target::Metrics),
        ] {
            exports = exports
                .route(&format!("{prefix}/{name}"), export_to(target))
                .route(&format!("{prefix}/{name}/"), export_to(target));
        }
    }
    // Not `layer`: a host may merge this router with its own, whose other paths aren't guarded.
    let exports = exports.route_layer(from_fn_with_state(Arc::new(options), guard::check));
    // Probes address a receiver by whatever name they know, without a token.
    let health = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready));
    exports.merge(health).with_state(receiver)
}

struct Receiver {
    sink: Arc<dyn Sink>,
    bodies: BodyReader,
    decoding: Semaphore,
    clock: Arc<dyn Clock>,
}

fn unsupported_media_type() -> Response {
    Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the content type must be application/x-protobuf or application/json",
    )
    .response(Encoding::Json)
}

impl Receiver {
    async fn answer(&self, target: Target, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let Some(encoding) = Encoding::of(&parts.headers) else {
            return unsupported_media_type();
        };
        match self.export(target, encoding, &parts.headers, body).await {
            Ok(rejected) => success(encoding, rejected.as_ref()),
            Err(refusal) => refusal.response(encoding),
        }
    }

    /// Stores a request; returns what was rejected of it.
    async fn export(
        &self,
        target: Target,
        encoding: Encoding,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Option<Rejected>, Refusal> {
        let buffer = self.bodies.read(headers, body).await?;
        let received_at = self.clock.now();
        // The semaphore is never closed.
        let _permit = self.decoding.acquire().await;
        // A large body takes longer than a task may occupy its thread.
        let decoding = spawn_blocking(move || {
            let decoded = wire::decode(buffer.bytes(), encoding, target, received_at);
            (decoded, buffer.into_share())
        });
        // The share of memory is held until the spans are stored: they take memory too.
        let (decoded, _share) = decoding.await.map_err(|err| {
            tracing::error!(%err, "could not decode a request");
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the body can't be decoded",
            )
        })?;
        let export = decoded.map_err(|err| Refusal::new(StatusCode::BAD_REQUEST, err.message))?;
        let (stored, rejected) = match export {
            Export::Spans(batch) => {
                let rejected = rejected(&batch, "rejectedSpans", "span");
                (self.sink.spans(batch.items).await, rejected)
            }
            Export::Logs(batch) => {
                let rejected = rejected(&batch, "rejectedLogRecords", "log record");
                (self.sink.logs(batch.items).await, rejected)
            }
            Export::Nothing => return Ok(None),
        };
        match stored {
            Ok(()) => Ok(rejected),
            Err(err) => {
                tracing::warn!(%err, "could not store telemetry; the sender will retry");
                // Even if the error is permanent, the data is only lost once the sender gives up.
                Err(Refusal::unavailable("the store is not available"))
            }
        }
    }
}

fn rejected<T>(batch: &Batch<T>, field: &'static str, noun: &str) -> Option<Rejected> {
    let reason = batch.reason?;
    Some(Rejected {
        field,
        number: batch.rejected,
        message: format!("the first rejected {noun} {reason}"),
    })
}

async fn ready(State(receiver): State<Arc<Receiver>>) -> Response {
    match timeout(READY_TIMEOUT, receiver.sink.ready()).await {
        Ok(Ok(())) => "ready\n".into_response(),
        failed => {
            if let Ok(Err(err)) = failed {
                tracing::warn!(%err, "the store is not ready");
            }
            let status = StatusCode::SERVICE_UNAVAILABLE;
            (status, [(RETRY_AFTER, "1")], "not ready\n").into_response()
        }
    }
}
