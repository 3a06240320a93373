use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::attributes::{KeyValue, cut};

/// The most bytes of a message, as JSON.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// A span in the JSON of OTLP, for a [`TraceRequest`](crate::TraceRequest).
#[derive(Clone, Debug)]
pub struct ExportedSpan {
    /// The resource, as JSON.
    pub(super) resource: String,
    pub(super) json: Box<RawValue>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Internal = 1,
    Client = 3,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<String>,
    pub(super) name: String,
    pub(super) kind: u8,
    pub(super) start_time_unix_nano: String,
    pub(super) end_time_unix_nano: String,
    pub(super) attributes: Vec<KeyValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<SpanEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dropped_events_count: Option<u32>,
    pub(super) status: Status,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpanEvent {
    pub(super) time_unix_nano: String,
    pub(super) name: String,
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Debug, Serialize)]
pub(super) struct Status {
    code: u8,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
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

impl Span {
    pub(super) fn export(&self, resource: &str) -> Option<ExportedSpan> {
        let json = to_raw_value(self).ok()?;
        let resource = resource.to_owned();
        Some(ExportedSpan { resource, json })
    }
}

/// Returns a time in nanoseconds. A time before 1970, which OTLP doesn't have, is 1970.
pub(super) fn nanos(time: DateTime<Utc>) -> String {
    let micros = u128::try_from(time.timestamp_micros()).unwrap_or_default();
    u64::try_from(micros * 1_000)
        .unwrap_or(u64::MAX)
        .to_string()
}

/// Returns the start of what has ended at this time.
pub(super) fn start(end: DateTime<Utc>, duration: Option<Duration>) -> DateTime<Utc> {
    let duration = duration.and_then(|it| chrono::TimeDelta::from_std(it).ok());
    let start = duration.and_then(|duration| end.checked_sub_signed(duration));
    start.unwrap_or(end)
}
