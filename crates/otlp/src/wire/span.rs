use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtrail_telemetry::{Source, Span, SpanEvent, SpanStatus};

use super::Rejection;
use super::value::{Attributes, MAX_ATTRIBUTES, MAX_EVENTS};

/// A span as it was sent.
#[derive(Debug)]
pub(super) struct SpanParts {
    pub(super) trace_id: Vec<u8>,
    pub(super) span_id: Vec<u8>,
    pub(super) parent_id: Vec<u8>,
    pub(super) name: String,
    /// The number of a `SpanKind`.
    pub(super) kind: u64,
    pub(super) start_nanos: u64,
    pub(super) end_nanos: u64,
    pub(super) attributes: Attributes,
    pub(super) events: Events,
    pub(super) status: StatusParts,
}

#[derive(Debug, Default)]
pub(super) struct StatusParts {
    /// The number of a `StatusCode`.
    pub(super) code: u64,
    pub(super) message: String,
}

/// The names of `SpanKind`, in the order of their numbers.
pub(super) const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

/// The names of `StatusCode`, in the order of their numbers.
pub(super) const STATUS_CODES: [&str; 3] =
    ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

impl Default for SpanParts {
    fn default() -> Self {
        Self {
            trace_id: Vec::new(),
            span_id: Vec::new(),
            parent_id: Vec::new(),
            name: String::new(),
            kind: 0,
            start_nanos: 0,
            end_nanos: 0,
            attributes: Attributes::new(MAX_ATTRIBUTES),
            events: Events::default(),
            status: StatusParts::default(),
        }
    }
}

impl SpanParts {
    pub(super) fn into_span(
        mut self,
        source: &Arc<Source>,
        received_at: DateTime<Utc>,
    ) -> Result<Span, Rejection> {
        const SERVER: u64 = 2;
        const CONSUMER: u64 = 5;

        let trace_id = id::<16>(&self.trace_id).ok_or("has no valid trace id")?;
        let span_id = id::<8>(&self.span_id).ok_or("has no valid span id")?;
        // A span above itself would have no root.
        let parent_id = id::<8>(&self.parent_id).filter(|parent| *parent != span_id);
        let ended_at = time(self.end_nanos);
        let started_at = time(self.start_nanos).or(ended_at).unwrap_or(received_at);
        let duration = ended_at
            .and_then(|ended_at| (ended_at - started_at).to_std().ok())
            .unwrap_or(Duration::ZERO);
        self.attributes.note_dropped_events(self.events.dropped);
        Ok(Span {
            trace_id,
            span_id,
            parent_id,
            name: self.name,
            is_server: matches!(self.kind, SERVER | CONSUMER),
            started_at,
            duration,
            attributes: self.attributes.into_map(),
            events: self.events.into_events(started_at),
            status: self.status.into_status(),
            source: Arc::clone(source),
        })
    }
}

impl StatusParts {
    fn into_status(self) -> SpanStatus {
        match self.code {
            1 => SpanStatus::Ok,
            2 => SpanStatus::Error(self.message),
            _ => SpanStatus::Unset,
        }
    }
}

/// The events of a span, up to a number.
#[derive(Debug, Default)]
pub(super) struct Events {
    events: Vec<EventParts>,
    dropped: u64,
}

#[derive(Debug)]
pub(super) struct EventParts {
    pub(super) nanos: u64,
    pub(super) name: String,
    pub(super) attributes: Attributes,
}

impl Events {
    /// Returns whether another event is kept; it needn't be decoded otherwise.
    pub(super) fn admits(&mut self) -> bool {
        let admits = self.events.len() < MAX_EVENTS;
        self.dropped += u64::from(!admits);
        admits
    }

    pub(super) fn push(&mut self, event: EventParts) {
        self.events.push(event);
    }

    fn into_events(self, started_at: DateTime<Utc>) -> Vec<SpanEvent> {
        let events = self.events.into_iter().map(|event| SpanEvent {
            name: event.name,
            at: time(event.nanos).unwrap_or(started_at),
            attributes: event.attributes.into_map(),
        });
        events.collect()
    }
}

/// Returns an id in lower-case hex; `None` if it has a wrong length, or all its bytes are zero.
pub(super) fn id<const BYTES: usize>(bytes: &[u8]) -> Option<String> {
    if bytes.len() != BYTES || bytes.iter().all(|it| *it == 0) {
        return None;
    }
    Some(hex(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";

    let digits = bytes.iter().flat_map(|it| [it >> 4, it & 15]);
    digits
        .map(|it| char::from(DIGITS[usize::from(it)]))
        .collect()
}

/// Returns a time in whole microseconds, as stores have it; `None` for 0, which means unknown.
pub(super) fn time(nanos: u64) -> Option<DateTime<Utc>> {
    let micros = i64::try_from(nanos / 1_000).ok().filter(|_| nanos > 0)?;
    DateTime::from_timestamp_micros(micros)
}
