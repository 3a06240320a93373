//! The JSON encoding.
//!
//! Each span or log is decoded on its own from its text, so that a malformed one doesn't fail the
//! others. Values within values are decoded level by level, which bounds their depth.

use std::sync::Arc;

use runtrail_telemetry::Source;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Rejection;
use super::log::{LogParts, severity_number};
use super::span::{EventParts, KINDS, STATUS_CODES, SpanParts, StatusParts};
use super::text::Text;
use super::value::{
    Attributes, Budget, MAX_ATTRIBUTES, MAX_DEPTH, MAX_EVENT_ATTRIBUTES, TOO_DEEP, bytes, double,
};

const MALFORMED: Rejection = "is not valid OTLP/JSON";

/// `null` is the same as a missing field in the JSON of protobuf.
type List<'a> = Option<Vec<&'a RawValue>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow)]
    resource_spans: List<'a>,
    #[serde(borrow)]
    resource_logs: List<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceItems<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    scope_spans: List<'a>,
    #[serde(borrow)]
    scope_logs: List<'a>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow)]
    attributes: List<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeItems<'a> {
    scope: Option<Scope>,
    #[serde(borrow)]
    spans: List<'a>,
    #[serde(borrow)]
    log_records: List<'a>,
}

#[derive(Deserialize)]
struct Scope {
    name: Option<Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: Option<Text>,
    span_id: Option<Text>,
    parent_span_id: Option<Text>,
    name: Option<Text>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    start_time_unix_nano: Option<&'a RawValue>,
    #[serde(borrow)]
    end_time_unix_nano: Option<&'a RawValue>,
    #[serde(borrow)]
    attributes: List<'a>,
    #[serde(borrow)]
    events: List<'a>,
    #[serde(borrow)]
    status: Option<Status<'a>>,
}

#[derive(Deserialize)]
struct Status<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    message: Option<Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    time_unix_nano: Option<&'a RawValue>,
    name: Option<Text>,
    #[serde(borrow)]
    attributes: List<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogRecord<'a> {
    #[serde(borrow)]
    time_unix_nano: Option<&'a RawValue>,
    #[serde(borrow)]
    observed_time_unix_nano: Option<&'a RawValue>,
    #[serde(borrow)]
    severity_number: Option<&'a RawValue>,
    severity_text: Option<Text>,
    event_name: Option<Text>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    attributes: List<'a>,
    trace_id: Option<Text>,
    span_id: Option<Text>,
}

#[derive(Deserialize)]
struct KeyValue<'a> {
    key: Option<Text>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyValue<'a> {
    string_value: Option<Text>,
    bool_value: Option<bool>,
    #[serde(borrow)]
    int_value: Option<&'a RawValue>,
    #[serde(borrow)]
    double_value: Option<&'a RawValue>,
    #[serde(borrow)]
    array_value: Option<Values<'a>>,
    #[serde(borrow)]
    kvlist_value: Option<Values<'a>>,
    bytes_value: Option<Text>,
}

#[derive(Deserialize)]
struct Values<'a> {
    #[serde(borrow)]
    values: List<'a>,
}

/// Passes each span of an `ExportTraceServiceRequest` to a function.
pub(super) fn spans(
    body: &[u8],
    budget: &mut Budget,
    mut each: impl FnMut(Result<SpanParts, Rejection>, &Arc<Source>),
) -> Result<(), Rejection> {
    let request: Request<'_> = serde_json::from_slice(body).map_err(|_| MALFORMED)?;
    for items in request.resource_spans.unwrap_or_default() {
        let items: ResourceItems<'_> = parse(items)?;
        let resource = attributes_of(items.resource, budget)?;
        for scope in items.scope_spans.unwrap_or_default() {
            let scope: ScopeItems<'_> = parse(scope)?;
            let source = source(&resource, items.resource, scope.scope, budget)?;
            for item in scope.spans.unwrap_or_default() {
                each(span(item, budget), &source);
            }
        }
    }
    Ok(())
}

/// Passes each log of an `ExportLogsServiceRequest` to a function.
pub(super) fn logs(
    body: &[u8],
    budget: &mut Budget,
    mut each: impl FnMut(Result<LogParts, Rejection>, &Arc<Source>),
) -> Result<(), Rejection> {
    let request: Request<'_> = serde_json::from_slice(body).map_err(|_| MALFORMED)?;
    for items in request.resource_logs.unwrap_or_default() {
        let items: ResourceItems<'_> = parse(items)?;
        let resource = attributes_of(items.resource, budget)?;
        for scope in items.scope_logs.unwrap_or_default() {
            let scope: ScopeItems<'_> = parse(scope)?;
            let source = source(&resource, items.resource, scope.scope, budget)?;
            for item in scope.log_records.unwrap_or_default() {
                each(log(item, budget), &source);
            }
        }
    }
    Ok(())
}

fn parse<'a, T: Deserialize<'a>>(text: &'a RawValue) -> Result<T, Rejection> {
    serde_json::from_str(text.get()).map_err(|_| MALFORMED)
}

fn attributes_of(
    resource: Option<&RawValue>,
    budget: &mut Budget,
) -> Result<Map<String, Value>, Rejection> {
    let Some(resource) = resource else {
        return Ok(Map::new());
    };
    let resource: Resource<'_> = parse(resource)?;
    let attributes = attributes(resource.attributes, MAX_ATTRIBUTES, 0, budget)?;
    Ok(attributes.into_map())
}

fn source(
    attributes: &Map<String, Value>,
    resource: Option<&RawValue>,
    scope: Option<Scope>,
    budget: &mut Budget,
) -> Result<Arc<Source>, Rejection> {
    budget.take_resource(resource.map_or(0, |it| it.get().len()))?;
    Ok(Arc::new(Source {
        resource: attributes.clone(),
        scope: plain(scope.and_then(|it| it.name)),
    }))
}

fn span(text: &RawValue, budget: &mut Budget) -> Result<SpanParts, Rejection> {
    let span: Span<'_> = parse(text)?;
    let mut parts = SpanParts {
        trace_id: hex(span.trace_id).ok_or("has a trace id that isn't hexadecimal")?,
        span_id: hex(span.span_id).ok_or("has a span id that isn't hexadecimal")?,
        parent_id: hex(span.parent_span_id).ok_or("has a parent id that isn't hexadecimal")?,
        name: plain(span.name),
        kind: enumeration(span.kind, |name| position(&KINDS, name))?,
        start_nanos: nanos(span.start_time_unix_nano)?,
        end_nanos: nanos(span.end_time_unix_nano)?,
        attributes: attributes(span.attributes, MAX_ATTRIBUTES, 0, budget)?,
        ..SpanParts::default()
    };
    for text in span.events.unwrap_or_default() {
        if parts.events.admits() {
            parts.events.push(event(text, budget)?);
        }
    }
    if let Some(status) = span.status {
        parts.status = StatusParts {
            code: enumeration(status.code, |name| position(&STATUS_CODES, name))?,
            message: plain(status.message),
        };
    }
    Ok(parts)
}

fn event(text: &RawValue, budget: &mut Budget) -> Result<EventParts, Rejection> {
    let event: Event<'_> = parse(text)?;
    Ok(EventParts {
        nanos: nanos(event.time_unix_nano)?,
        name: plain(event.name),
        attributes: attributes(event.attributes, MAX_EVENT_ATTRIBUTES, 0, budget)?,
    })
}

fn log(text: &RawValue, budget: &mut Budget) -> Result<LogParts, Rejection> {
    let log: LogRecord<'_> = parse(text)?;
    Ok(LogParts {
        nanos: nanos(log.time_unix_nano)?,
        observed_nanos: nanos(log.observed_time_unix_nano)?,
        severity_number: enumeration(log.severity_number, severity_number)?,
        severity_text: plain(log.severity_text),
        event_name: plain(log.event_name),
        body: match log.body {
            Some(body) => any_value(body, 0, budget)?,
            None => Value::Null,
        },
        attributes: attributes(log.attributes, MAX_ATTRIBUTES, 0, budget)?,
        trace_id: hex(log.trace_id).unwrap_or_default(),
        span_id: hex(log.span_id).unwrap_or_default(),
    })
}

fn attributes(
    list: List<'_>,
    limit: usize,
    depth: usize,
    budget: &mut Budget,
) -> Result<Attributes, Rejection> {
    let mut attributes = Attributes::new(limit);
    for text in list.unwrap_or_default() {
        let KeyValue { key, value } = parse(text)?;
        let key = plain(key);
        if attributes.admits(&key) {
            let value = match value {
                Some(value) => any_value(value, depth, budget)?,
                None => Value::Null,
            };
            attributes.insert(key, value);
        }
    }
    Ok(attributes)
}

fn any_value(text: &RawValue, depth: usize, budget: &mut Budget) -> Result<Value, Rejection> {
    budget.take()?;
    if depth >= MAX_DEPTH {
        return Ok(TOO_DEEP.into());
    }
    Ok(match parse(text)? {
        AnyValue {
            string_value: Some(Text(text)),
            ..
        } => text.into(),
        AnyValue {
            bool_value: Some(value),
            ..
        } => value.into(),
        AnyValue {
            int_value: Some(text),
            ..
        } => integer(text)?,
        AnyValue {
            double_value: Some(text),
            ..
        } => double(unquoted(text).parse().map_err(|_| NOT_A_NUMBER)?),
        AnyValue {
            array_value: Some(list),
            ..
        } => {
            let values = list.values.unwrap_or_default().into_iter();
            let values = values.map(|it| any_value(it, depth + 1, budget));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        AnyValue {
            kvlist_value: Some(list),
            ..
        } => {
            let entries = attributes(list.values, MAX_ATTRIBUTES, depth + 1, budget)?;
            Value::Object(entries.into_map())
        }
        AnyValue {
            bytes_value: Some(Text(base64)),
            ..
        } => bytes(base64.trim_end_matches('=').len() * 3 / 4),
        _ => Value::Null,
    })
}

const NOT_A_NUMBER: Rejection = "has a number that can't be read";

fn plain(text: Option<Text>) -> String {
    text.unwrap_or_default().0
}

/// Numbers of 64 bits are strings in the JSON of protobuf, but not of every sender. They have no
/// escapes.
fn unquoted(text: &RawValue) -> &str {
    text.get().trim_matches('"')
}

fn integer(text: &RawValue) -> Result<Value, Rejection> {
    let text = unquoted(text);
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number.into());
    }
    text.parse().map(double).map_err(|_| NOT_A_NUMBER)
}

/// Returns 0, which means unknown, for a time that is out of range.
fn nanos(text: Option<&RawValue>) -> Result<u64, Rejection> {
    let Some(text) = text.map(unquoted).filter(|text| !text.is_empty()) else {
        return Ok(0);
    };
    if let Ok(nanos) = text.parse() {
        return Ok(nanos);
    }
    // JavaScript writes large numbers in scientific notation.
    let nanos: f64 = text.parse().map_err(|_| "has a time that can't be read")?;
    let is_in_range = nanos >= 0.0 && nanos < u64::MAX as f64;
    Ok(if is_in_range { nanos as u64 } else { 0 })
}

/// Accepts the name of a value, too: OTLP allows only its number, which some senders disregard.
fn enumeration(
    text: Option<&RawValue>,
    number_of: impl FnOnce(&str) -> Option<u64>,
) -> Result<u64, Rejection> {
    let Some(text) = text.map(unquoted) else {
        return Ok(0);
    };
    let number = text.parse().ok().or_else(|| number_of(text));
    number.ok_or("has a kind, status or severity that OTLP doesn't define")
}

fn position(names: &[&str], name: &str) -> Option<u64> {
    let index = names.iter().position(|it| *it == name)?;
    u64::try_from(index).ok()
}

/// Decodes an id of either case; `None` if it isn't hexadecimal.
fn hex(text: Option<Text>) -> Option<Vec<u8>> {
    let text = plain(text);
    if !text.len().is_multiple_of(2) || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = (0..text.len())
        .step_by(2)
        .map(|start| &text[start..start + 2]);
    pairs.map(|it| u8::from_str_radix(it, 16).ok()).collect()
}
