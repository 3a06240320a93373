//! The fields of a span or event.

use std::borrow::Cow;
use std::fmt;

use runtrail_telemetry::Attributes;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

/// Longer texts are cut: the store limits the size of a payload, and the buffer that of all
/// payloads.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// The values of fields, in the order in which they were first recorded.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub(super) fn with_capacity(fields: usize) -> Self {
        Self(Vec::with_capacity(fields))
    }

    /// Returns the fields as a JSON object, except those that a condition excludes.
    pub(super) fn to_object(&self, is_excluded: impl Fn(&str) -> bool) -> Map<String, Value> {
        let fields = self.0.iter().filter(|(name, _)| !is_excluded(name));
        fields
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    /// Adds fields; replaces those that exist.
    pub(super) fn merge(&mut self, fields: Self) {
        for (name, value) in fields.0 {
            self.set(name, value);
        }
    }

    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(stored, _)| *stored == name) {
            Some((_, stored)) => *stored = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Attributes for Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| value)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::String(cut(Cow::Borrowed(value))));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(
            field.name(),
            Value::String(cut(format!("{value:?}").into())),
        );
    }
}

/// Cuts a text that is too long, and appends its length.
fn cut(text: Cow<'_, str>) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.into_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT_BYTES);
    format!("{}… ({} bytes)", &text[..end], text.len())
}
