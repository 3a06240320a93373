//! The fields of a span or event.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

/// Longer texts are cut: the store limits the size of a payload, and the queue that of all events.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// The values of fields, in the order in which they were first recorded.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| value)
    }

    /// Returns the first of these fields that has a text, other than an empty one.
    pub(super) fn text(&self, names: &[&str]) -> Option<&str> {
        let texts = names.iter().filter_map(|name| self.get(name)?.as_str());
        texts.into_iter().find(|text| !text.is_empty())
    }

    /// Returns the first of these fields that has a whole number.
    pub(super) fn number(&self, names: &[&str]) -> Option<u64> {
        let number = |value: &Value| match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        };
        names.iter().find_map(|name| number(self.get(name)?))
    }

    /// Returns the fields as a JSON object, except those that a condition excludes.
    pub(super) fn to_object(&self, is_excluded: impl Fn(&str) -> bool) -> Map<String, Value> {
        let fields = self.0.iter().filter(|(name, _)| !is_excluded(name));
        fields
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    fn set(&mut self, field: &Field, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, stored)) => *stored = value,
            None => self.0.push((field.name(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::String(cut(value.to_owned())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, Value::String(cut(format!("{value:?}"))));
    }
}

/// Cuts a text that is too long, and notes its length.
fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let note = format!("… ({} bytes)", text.len());
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push_str(&note);
    }
    text
}
