//! The protobuf encoding.

use std::sync::Arc;

use runtrail_telemetry::Source;
use serde_json::{Map, Value};

use super::Rejection;
use super::log::LogParts;
use super::span::{EventParts, SpanParts, StatusParts};
use super::text::text;
use super::value::{
    Attributes, Budget, MAX_ATTRIBUTES, MAX_DEPTH, MAX_EVENT_ATTRIBUTES, TOO_DEEP, bytes, double,
};

const MALFORMED: Rejection = "is not valid protobuf";
/// The body may hold other messages than its path is for.
const WRONG_TYPE: Rejection = "has a field of another type";

/// Passes each span of an `ExportTraceServiceRequest` to a function.
pub(super) fn spans(
    body: &[u8],
    budget: &mut Budget,
    mut each: impl FnMut(Result<SpanParts, Rejection>, &Arc<Source>),
) -> Result<(), Rejection> {
    items(body, budget, |bytes, source, budget| {
        each(span(bytes, budget), source);
    })
}

/// Passes each log of an `ExportLogsServiceRequest` to a function.
pub(super) fn logs(
    body: &[u8],
    budget: &mut Budget,
    mut each: impl FnMut(Result<LogParts, Rejection>, &Arc<Source>),
) -> Result<(), Rejection> {
    items(body, budget, |bytes, source, budget| {
        each(log(bytes, budget), source);
    })
}

/// Requests for spans and for logs have the same outer fields: a resource has scopes, and a scope
/// has items.
fn items(
    body: &[u8],
    budget: &mut Budget,
    mut each: impl FnMut(&[u8], &Arc<Source>, &mut Budget),
) -> Result<(), Rejection> {
    for resource_items in Fields::of(body, 1) {
        let resource_items = resource_items?;
        // What describes the items may be encoded after them.
        let resource = last(resource_items, 1)?;
        let resource_attributes = attributes(resource, 1, budget)?;
        for scope_items in Fields::of(resource_items, 2) {
            let scope_items = scope_items?;
            budget.take_resource(resource.len())?;
            let source = Arc::new(Source {
                resource: resource_attributes.clone(),
                scope: text(last(last(scope_items, 1)?, 1)?),
            });
            for item in Fields::of(scope_items, 2) {
                each(item?, &source, budget);
            }
        }
    }
    Ok(())
}

fn span(bytes: &[u8], budget: &mut Budget) -> Result<SpanParts, Rejection> {
    let mut span = SpanParts::default();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => span.trace_id = value.bytes()?.to_vec(),
            2 => span.span_id = value.bytes()?.to_vec(),
            4 => span.parent_id = value.bytes()?.to_vec(),
            5 => span.name = text(value.bytes()?),
            6 => span.kind = value.varint()?,
            7 => span.start_nanos = value.fixed64()?,
            8 => span.end_nanos = value.fixed64()?,
            9 => attribute(value.bytes()?, &mut span.attributes, 0, budget)?,
            11 => {
                let bytes = value.bytes()?;
                if span.events.admits() {
                    span.events.push(event(bytes, budget)?);
                }
            }
            15 => span.status = status(value.bytes()?)?,
            _ => {}
        }
    }
    Ok(span)
}

fn event(bytes: &[u8], budget: &mut Budget) -> Result<EventParts, Rejection> {
    let mut event = EventParts {
        nanos: 0,
        name: String::new(),
        attributes: Attributes::new(MAX_EVENT_ATTRIBUTES),
    };
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => event.nanos = value.fixed64()?,
            2 => event.name = text(value.bytes()?),
            3 => attribute(value.bytes()?, &mut event.attributes, 0, budget)?,
            _ => {}
        }
    }
    Ok(event)
}

fn status(bytes: &[u8]) -> Result<StatusParts, Rejection> {
    let mut status = StatusParts::default();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            2 => status.message = text(value.bytes()?),
            3 => status.code = value.varint()?,
            _ => {}
        }
    }
    Ok(status)
}

fn log(bytes: &[u8], budget: &mut Budget) -> Result<LogParts, Rejection> {
    let mut log = LogParts::default();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => log.nanos = value.fixed64()?,
            2 => log.severity_number = value.varint()?,
            3 => log.severity_text = text(value.bytes()?),
            5 => log.body = any_value(value.bytes()?, 0, budget)?,
            6 => attribute(value.bytes()?, &mut log.attributes, 0, budget)?,
            9 => log.trace_id = value.bytes()?.to_vec(),
            10 => log.span_id = value.bytes()?.to_vec(),
            11 => log.observed_nanos = value.fixed64()?,
            12 => log.event_name = text(value.bytes()?),
            _ => {}
        }
    }
    Ok(log)
}

/// Decodes the field of a message that has attributes.
fn attributes(
    message: &[u8],
    number: u32,
    budget: &mut Budget,
) -> Result<Map<String, Value>, Rejection> {
    let mut attributes = Attributes::new(MAX_ATTRIBUTES);
    for bytes in Fields::of(message, number) {
        attribute(bytes?, &mut attributes, 0, budget)?;
    }
    Ok(attributes.into_map())
}

fn attribute(
    bytes: &[u8],
    attributes: &mut Attributes,
    depth: usize,
    budget: &mut Budget,
) -> Result<(), Rejection> {
    let key = text(last(bytes, 1)?);
    if attributes.admits(&key) {
        let value = any_value(last(bytes, 2)?, depth, budget)?;
        attributes.insert(key, value);
    }
    Ok(())
}

fn any_value(encoded: &[u8], depth: usize, budget: &mut Budget) -> Result<Value, Rejection> {
    budget.take()?;
    if depth >= MAX_DEPTH {
        return Ok(TOO_DEEP.into());
    }
    let mut decoded = Value::Null;
    for field in Fields::new(encoded) {
        let (number, value) = field?;
        decoded = match number {
            1 => text(value.bytes()?).into(),
            2 => (value.varint()? != 0).into(),
            3 => value.varint()?.cast_signed().into(),
            4 => double(f64::from_bits(value.fixed64()?)),
            5 => {
                let values = Fields::of(value.bytes()?, 1);
                let values = values.map(|it| any_value(it?, depth + 1, budget));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
            6 => {
                let mut entries = Attributes::new(MAX_ATTRIBUTES);
                for entry in Fields::of(value.bytes()?, 1) {
                    attribute(entry?, &mut entries, depth + 1, budget)?;
                }
                Value::Object(entries.into_map())
            }
            7 => bytes(value.bytes()?.len()),
            _ => continue,
        };
    }
    Ok(decoded)
}

/// Returns the last of the fields with a number, which counts if there are several; empty if there
/// is none.
fn last(message: &[u8], number: u32) -> Result<&[u8], Rejection> {
    Fields::of(message, number).try_fold(&[][..], |_, field| field)
}

/// The fields of a message. After an error there are no more.
struct Fields<'a> {
    rest: &'a [u8],
}

enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Fields<'a> {
    fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The fields with a number, which must hold bytes.
    fn of(message: &'a [u8], number: u32) -> impl Iterator<Item = Result<&'a [u8], Rejection>> {
        Self::new(message).filter_map(move |field| match field {
            Ok((it, value)) if it == number => Some(value.bytes()),
            Ok(_) => None,
            Err(err) => Some(Err(err)),
        })
    }

    fn field(&mut self) -> Option<(u32, Field<'a>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|it| *it > 0)?;
        let value = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            5 => {
                self.array::<4>()?;
                Field::Fixed32
            }
            // Groups, which OTLP doesn't use.
            _ => return None,
        };
        Some((number, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field().ok_or(MALFORMED);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    fn varint(self) -> Result<u64, Rejection> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(WRONG_TYPE),
        }
    }

    fn fixed64(self) -> Result<u64, Rejection> {
        match self {
            Self::Fixed64(value) => Ok(value),
            _ => Err(WRONG_TYPE),
        }
    }

    fn bytes(self) -> Result<&'a [u8], Rejection> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WRONG_TYPE),
        }
    }
}

/// Reads the number of rejected items and the message of an answer to an export.
pub(crate) fn read_partial_success(answer: &[u8]) -> Result<(u64, String), Rejection> {
    let (mut rejected, mut message) = (0, String::new());
    for field in Fields::new(last(answer, 1)?) {
        match field? {
            (1, value) => rejected = value.varint()?,
            (2, value) => message = text(value.bytes()?),
            _ => {}
        }
    }
    Ok((rejected, message))
}

/// Reads the message of a `google.rpc.Status`.
pub(crate) fn read_refusal(status: &[u8]) -> Result<String, Rejection> {
    Ok(text(last(status, 2)?))
}

/// Writes a message.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    message: Vec<u8>,
}

impl Writer {
    /// Adds a field with a number.
    pub(crate) fn varint(mut self, number: u64, value: u64) -> Self {
        self.push(number << 3);
        self.push(value);
        self
    }

    /// Adds a field with a number of a fixed length.
    pub(crate) fn fixed64(mut self, number: u64, value: u64) -> Self {
        self.push(number << 3 | 1);
        self.message.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Adds a field with bytes, a text or a message.
    pub(crate) fn bytes(mut self, number: u64, bytes: &[u8]) -> Self {
        self.push(number << 3 | 2);
        self.push(bytes.len() as u64);
        self.message.extend_from_slice(bytes);
        self
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.message
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.message
    }

    fn push(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.message.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.message.push(value.to_le_bytes()[0]);
    }
}
