//! Spans in protobuf.

use super::attributes::{AnyValue, KeyValue};
use super::span::{Span, SpanEvent};
use crate::wire::protobuf::Writer;

pub(super) fn resource(attributes: &[KeyValue]) -> Vec<u8> {
    with_attributes(Writer::default(), 1, attributes).into_bytes()
}

pub(super) fn span(span: &Span) -> Vec<u8> {
    let mut writer = Writer::default()
        .bytes(1, &from_hex(&span.trace_id))
        .bytes(2, &from_hex(&span.span_id));
    if let Some(parent) = &span.parent_span_id {
        writer = writer.bytes(4, &from_hex(parent));
    }
    writer = writer
        .bytes(5, span.name.as_bytes())
        .varint(6, span.kind.into())
        .fixed64(7, span.start_time_unix_nano)
        .fixed64(8, span.end_time_unix_nano);
    writer = with_attributes(writer, 9, &span.attributes);
    for it in &span.events {
        writer = writer.bytes(11, &event(it));
    }
    if let Some(dropped) = span.dropped_events_count {
        writer = writer.varint(12, dropped.into());
    }
    let status = Writer::default()
        .bytes(2, span.status.message.as_bytes())
        .varint(3, span.status.code.into());
    writer.bytes(15, status.as_bytes()).into_bytes()
}

fn event(event: &SpanEvent) -> Vec<u8> {
    let writer = Writer::default()
        .fixed64(1, event.time_unix_nano)
        .bytes(2, event.name.as_bytes());
    with_attributes(writer, 3, &event.attributes).into_bytes()
}

fn with_attributes(mut writer: Writer, field: u64, attributes: &[KeyValue]) -> Writer {
    for KeyValue { key, value } in attributes {
        let attribute = Writer::default()
            .bytes(1, key.as_bytes())
            .bytes(2, &any_value(value));
        writer = writer.bytes(field, attribute.as_bytes());
    }
    writer
}

fn any_value(value: &AnyValue) -> Vec<u8> {
    let writer = Writer::default();
    let writer = match value {
        AnyValue::Text(text) => writer.bytes(1, text.as_bytes()),
        AnyValue::Bool(value) => writer.varint(2, u64::from(*value)),
        AnyValue::Int(number) => writer.varint(3, number.cast_unsigned()),
        AnyValue::Double(number) => writer.fixed64(4, number.to_bits()),
        AnyValue::Array { values } => {
            let mut array = Writer::default();
            for value in values {
                array = array.bytes(1, &any_value(value));
            }
            writer.bytes(5, array.as_bytes())
        }
    };
    writer.into_bytes()
}

/// Returns the bytes of an id.
fn from_hex(id: &str) -> Vec<u8> {
    let pairs = id.as_bytes().chunks(2);
    let digit = |it: &u8| char::from(*it).to_digit(16).unwrap_or_default();
    let byte = |pair: &[u8]| pair.iter().fold(0, |byte, it| byte << 4 | digit(it));
    pairs.map(|pair| byte(pair).to_le_bytes()[0]).collect()
}
