//! Attributes and their values, within limits.

use serde_json::{Map, Value};

use super::Rejection;

/// Attributes of a span or log, and of an object in a value.
pub(super) const MAX_ATTRIBUTES: usize = 1_000;
pub(super) const MAX_EVENTS: usize = 128;
pub(super) const MAX_EVENT_ATTRIBUTES: usize = 128;
const MAX_KEY_BYTES: usize = 256;

/// Values within values. In JSON, each level is scanned again for the next one.
pub(super) const MAX_DEPTH: usize = 20;

/// Values of a request. Without a limit, nested empty arrays would take thirty times their size.
const MAX_VALUES: usize = 1_000_000;

/// What an encoded value has at least, with its key, unless a sender means harm.
const MIN_VALUE_BYTES: usize = 16;

/// Stands for a value that is nested deeper than [`MAX_DEPTH`].
pub(super) const TOO_DEEP: &str = "(nested too deeply)";

const DROPPED_ATTRIBUTES: &str = "runtrail.dropped_attributes";
const DROPPED_EVENTS: &str = "runtrail.dropped_events";

/// The values that a request may still have.
#[derive(Debug)]
pub(super) struct Budget {
    values: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { values: MAX_VALUES }
    }
}

impl Budget {
    /// Accounts for one value.
    pub(super) fn take(&mut self) -> Result<(), Rejection> {
        self.take_many(1)
    }

    /// Accounts for another copy of a resource: each scope has one.
    pub(super) fn take_resource(&mut self, encoded: usize) -> Result<(), Rejection> {
        self.take_many(1 + encoded / MIN_VALUE_BYTES)
    }

    fn take_many(&mut self, values: usize) -> Result<(), Rejection> {
        let left = self.values.checked_sub(values).ok_or(TOO_MANY)?;
        self.values = left;
        Ok(())
    }
}

const TOO_MANY: Rejection = "has more than 1,000,000 values";

/// Attributes, up to a number.
#[derive(Debug)]
pub(super) struct Attributes {
    map: Map<String, Value>,
    /// How many more are accepted.
    left: usize,
    dropped: u64,
}

impl Attributes {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            map: Map::new(),
            left: limit,
            dropped: 0,
        }
    }

    /// Returns whether an attribute is kept; its value needn't be decoded otherwise.
    pub(super) fn admits(&mut self, key: &str) -> bool {
        let Some(left) = self
            .left
            .checked_sub(1)
            .filter(|_| key.len() <= MAX_KEY_BYTES)
        else {
            self.dropped += 1;
            return false;
        };
        self.left = left;
        true
    }

    pub(super) fn insert(&mut self, key: String, value: Value) {
        self.map.insert(key, value);
    }

    /// Returns the attributes. One of them says how many were dropped, if any were.
    pub(super) fn into_map(mut self) -> Map<String, Value> {
        if self.dropped > 0 {
            self.insert(DROPPED_ATTRIBUTES.to_owned(), self.dropped.into());
        }
        self.map
    }

    pub(super) fn note_dropped_events(&mut self, dropped: u64) {
        if dropped > 0 {
            self.insert(DROPPED_EVENTS.to_owned(), dropped.into());
        }
    }
}

/// JSON has no number for infinity and NaN; they become texts, as in the JSON of protobuf.
pub(super) fn double(number: f64) -> Value {
    if number.is_nan() {
        "NaN".into()
    } else if number == f64::INFINITY {
        "Infinity".into()
    } else if number == f64::NEG_INFINITY {
        "-Infinity".into()
    } else {
        number.into()
    }
}

/// Bytes are not stored, only their number.
pub(super) fn bytes(length: usize) -> Value {
    let mut object = Map::new();
    object.insert("bytes".to_owned(), length.into());
    Value::Object(object)
}
