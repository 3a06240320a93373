//! Checks JSON values without buffering them in memory.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtrail::rules::MAX_JSON_DEPTH;
use runtrail::{Limits, Usage};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// Reads a value to its end. Refuses a value that can't be stored: too long, nested too deeply, or
/// with a duplicate key.
pub(super) struct Measured<'a> {
    field: &'static str,
    size: &'a mut usize,
    depth: usize,
}

impl<'a> Measured<'a> {
    /// `size` must be 0.
    pub(super) fn new(field: &'static str, size: &'a mut usize) -> Self {
        let depth = 0;
        Self { field, size, depth }
    }

    fn add<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        *self.size = self.size.saturating_add(bytes);
        if *self.size > Limits::MAX_VALUE_BYTES {
            return Err(E::custom(format_args!(
                "{} has more than {} bytes",
                self.field,
                Limits::MAX_VALUE_BYTES
            )));
        }
        Ok(())
    }

    /// Measures a value inside this array or object.
    fn within<E: Error>(&mut self) -> Result<Measured<'_>, E> {
        if self.depth >= MAX_JSON_DEPTH {
            return Err(E::custom(format_args!(
                "{} is nested deeper than {MAX_JSON_DEPTH} levels",
                self.field
            )));
        }
        Ok(Measured {
            field: self.field,
            size: self.size,
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Measured<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Measured<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.add("null".len())
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        self.add(if value { "true" } else { "false" }.len())
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
        self.add(Number::from(value).to_string().len())
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        self.add(Number::from(value).to_string().len())
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        self.add(Value::from(value).to_string().len())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.add(length(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.add("[]".len())?;
        let mut separator = 0;
        while items.next_element_seed(self.within()?)?.is_some() {
            self.add(separator)?;
            separator = 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.add("{}".len())?;
        let mut keys = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            let separators = if keys.is_empty() { ":" } else { ":," }.len();
            self.add(length(&key) + separators)?;
            members.next_value_seed(self.within()?)?;
            insert_unique(&mut keys, key)?;
        }
        Ok(())
    }
}

/// Refuses a duplicate key, since one of the two values would be lost.
pub(super) fn insert_unique<E: Error>(keys: &mut HashSet<String>, key: String) -> Result<(), E> {
    match keys.replace(key) {
        Some(key) => Err(E::custom(format_args!(
            "the key {:?} is given twice",
            shortened(&key)
        ))),
        None => Ok(()),
    }
}

/// Shortens a name for a message.
pub(super) fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(60)]
}

/// Returns the length of a text as JSON.
fn length(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0C => 2,
        0..0x20 => 6,
        _ => 1,
    });
    escaped.sum::<usize>() + 2
}

/// An event whose payload is measured but not stored in memory.
pub(super) struct MeasuredEvent {
    pub(super) sequence: u64,
    pub(super) event_type: String,
    pub(super) duration: Option<Duration>,
    pub(super) usage: Option<Usage>,
}

impl<'de> serde::Deserialize<'de> for MeasuredEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = MeasuredEvent;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<MeasuredEvent, A::Error> {
        const FIELDS: &[&str] = &[
            "sequence",
            "event_type",
            "payload",
            "created_at",
            "duration_micros",
            "usage",
        ];
        /// The number of leading fields that every event must have.
        const REQUIRED: usize = 4;

        let (mut sequence, mut event_type) = (None, None);
        let (mut duration, mut usage) = (None, None);
        let mut keys = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                "sequence" => sequence = Some(members.next_value()?),
                "event_type" => event_type = Some(members.next_value()?),
                "payload" => members.next_value_seed(Measured::new("payload", &mut 0))?,
                "created_at" => drop(members.next_value::<DateTime<Utc>>()?),
                "duration_micros" => duration = members.next_value::<Option<u64>>()?,
                "usage" => usage = members.next_value()?,
                other => return Err(A::Error::unknown_field(shortened(other), FIELDS)),
            }
            insert_unique(&mut keys, key)?;
        }
        let missing = FIELDS[..REQUIRED]
            .iter()
            .find(|field| !keys.contains(**field));
        match (missing, sequence, event_type) {
            (None, Some(sequence), Some(event_type)) => Ok(MeasuredEvent {
                sequence,
                event_type,
                duration: duration.map(Duration::from_micros),
                usage,
            }),
            (missing, ..) => Err(A::Error::missing_field(missing.unwrap_or(&"sequence"))),
        }
    }
}
