use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// The program and library that a span or log comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// The attributes of the resource, such as `service.name`.
    pub resource: Map<String, Value>,
    /// The name of the instrumentation scope; may be empty.
    pub scope: String,
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The id of the trace, 32 lower-case hex digits.
    pub trace_id: String,
    /// The id of the span, 16 lower-case hex digits.
    pub span_id: String,
    /// The id of the span above; `None` for the root of a trace.
    pub parent_id: Option<String>,
    /// Its name.
    pub name: String,
    /// Whether another process called this one, as in `SPAN_KIND_SERVER` and `SPAN_KIND_CONSUMER`.
    pub is_server: bool,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took; zero if the sender's end is before its start.
    pub duration: Duration,
    /// Its attributes. A value of bytes is an object `{"bytes": length}`.
    pub attributes: Map<String, Value>,
    /// Its events, in the order of the sender.
    pub events: Vec<SpanEvent>,
    /// Its status.
    pub status: SpanStatus,
    /// Where it comes from.
    pub source: Arc<Source>,
}

/// An event of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// Its name.
    pub name: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Its attributes.
    pub attributes: Map<String, Value>,
}

/// The status of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SpanStatus {
    /// Not set; most senders leave it so on success.
    #[default]
    Unset,
    /// Success.
    Ok,
    /// Failure, with a message that may be empty.
    Error(String),
}

/// A log record.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// A digest of the content, so a record that is sent again has the same id.
    pub id: String,
    /// The trace of the span in which it was written, if any: 32 lower-case hex digits.
    pub trace_id: Option<String>,
    /// The span in which it was written, if any: 16 lower-case hex digits.
    pub span_id: Option<String>,
    /// The event name, if the sender sets the dedicated field (`event_name`); otherwise empty.
    pub event_name: String,
    /// The severity, such as `WARN`; may be empty.
    pub severity: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Its body.
    pub body: Value,
    /// Its attributes.
    pub attributes: Map<String, Value>,
    /// Where it comes from.
    pub source: Arc<Source>,
}
