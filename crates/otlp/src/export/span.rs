use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::attributes::{KeyValue, as_text, cut};

/// The most bytes of a message, as JSON.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// A span with its resource, for a [`TraceRequest`](crate::TraceRequest).
#[derive(Clone, Debug)]
pub struct ExportedSpan {
    /// The attributes of the resource, which the spans of a run share.
    pub(super) resource: Arc<Vec<KeyValue>>,
    pub(super) span: Span,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Internal = 1,
    Client = 3,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<String>,
    pub(super) name: String,
    pub(super) kind: u8,
    #[serde(serialize_with = "as_text")]
    pub(super) start_time_unix_nano: u64,
    #[serde(serialize_with = "as_text")]
    pub(super) end_time_unix_nano: u64,
    pub(super) attributes: Vec<KeyValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<SpanEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dropped_events_count: Option<u32>,
    pub(super) status: Status,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpanEvent {
    #[serde(serialize_with = "as_text")]
    pub(super) time_unix_nano: u64,
    pub(super) name: String,
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Status {
    pub(super) code: u8,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
}

impl Status {
    /// Success without an error, else failure.
    pub(super) fn of(error: Option<&str>) -> Self {
        match error {
            None => Self {
                code: 1,
                message: String::new(),
            },
            Some(message) => Self {
                code: 2,
                message: cut(message, MAX_MESSAGE_BYTES),
            },
        }
    }
}

/// Returns a time in nanoseconds. A time before 1970, which OTLP doesn't have, is 1970.
pub(super) fn nanos(time: DateTime<Utc>) -> u64 {
    let micros = u128::try_from(time.timestamp_micros()).unwrap_or_default();
    u64::try_from(micros * 1_000).unwrap_or(u64::MAX)
}

/// Returns the start of what has ended at this time.
pub(super) fn start(end: DateTime<Utc>, duration: Option<Duration>) -> DateTime<Utc> {
    let duration = duration.and_then(|it| chrono::TimeDelta::from_std(it).ok());
    let start = duration.and_then(|duration| end.checked_sub_signed(duration));
    start.unwrap_or(end)
}
