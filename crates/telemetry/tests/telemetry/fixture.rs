use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use runtrail_audit::Usage;
use runtrail_telemetry::{
    EventPart, LogRecord, Policy, Record, Source, Span, SpanEvent, SpanStatus, read_log, read_span,
};
use serde_json::{Map, Value};

pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        value => panic!("not an object: {value}"),
    }
}

/// A span below another one.
pub(crate) fn span(name: &str, attributes: Value) -> Span {
    Span {
        trace_id: TRACE.to_owned(),
        span_id: "b7ad6b7169203331".to_owned(),
        parent_id: Some("00f067aa0ba902b7".to_owned()),
        name: name.to_owned(),
        is_server: false,
        started_at: DateTime::UNIX_EPOCH + Duration::from_secs(10),
        duration: Duration::from_millis(1_500),
        attributes: object(attributes),
        events: Vec::new(),
        status: SpanStatus::Unset,
        source: Arc::default(),
    }
}

pub(crate) fn span_event(name: &str, attributes: Value) -> SpanEvent {
    SpanEvent {
        name: name.to_owned(),
        at: DateTime::UNIX_EPOCH,
        attributes: object(attributes),
    }
}

pub(crate) fn source(service: &str, scope: &str) -> Arc<Source> {
    Arc::new(Source {
        resource: Map::from_iter([("service.name".to_owned(), service.into())]),
        scope: scope.to_owned(),
    })
}

/// A log outside all traces.
pub(crate) fn log(name: &str, attributes: Value) -> LogRecord {
    LogRecord {
        id: "log-1".to_owned(),
        trace_id: None,
        span_id: None,
        event_name: name.to_owned(),
        severity: "INFO".to_owned(),
        at: DateTime::UNIX_EPOCH + Duration::from_secs(10),
        body: Value::Null,
        attributes: object(attributes),
        source: Arc::default(),
    }
}

pub(crate) fn in_trace(mut log: LogRecord) -> LogRecord {
    log.trace_id = Some(TRACE.to_owned());
    log.span_id = Some("b7ad6b7169203331".to_owned());
    log
}

pub(crate) fn read(span: Span) -> Record {
    read_span(span, &Policy::new())
}

pub(crate) fn read_kept_log(log: LogRecord) -> Record {
    match read_log(log, &Policy::new()) {
        Some(record) => record,
        None => panic!("the log isn't kept"),
    }
}

pub(crate) fn event(record: &Record) -> &EventPart {
    match &record.event {
        Some(event) => event,
        None => panic!("no event: {record:?}"),
    }
}

pub(crate) fn usage(record: &Record) -> Usage {
    record.usage.clone().unwrap_or_default()
}

/// The input, cache read, cache write, output and thinking tokens.
pub(crate) fn tokens(record: &Record) -> [Option<u64>; 5] {
    let usage = usage(record);
    [
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.thinking_tokens,
    ]
}
