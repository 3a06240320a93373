//! An OTLP/HTTP receiver for the telemetry of agents, and an export of runs as OTLP traces.
//!
//! [`router`] answers the requests of OpenTelemetry exporters, in protobuf and JSON, and passes
//! spans and logs to a [`Sink`]. A request is acknowledged once the sink has stored them; until
//! then the sender retries. Metrics are acknowledged and dropped.
//!
//! [`RunSpans`] and [`TraceRequest`] turn finished runs into requests that any OTLP receiver
//! accepts, including this one.

mod body;
mod export;
mod fold;
mod guard;
mod options;
mod receiver;
mod reply;
mod router;
mod schedule;
mod sink;
mod wire;

pub use export::{ExportedSpan, RunSpans, TraceAnswer, TraceRequest};
pub use guard::guarded;
pub use options::RouterOptions;
pub use receiver::{HostRun, Receiver, ReceiverOptions};
pub use router::router;
pub use sink::Sink;

#[doc(inline)]
pub use runtrail_telemetry::{LogRecord, Policy, Source, Span, SpanEvent, SpanStatus};
