use std::fmt::Display;

use runtrail_audit::Usage;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// The most bytes of the attributes of a span, as JSON. What exceeds them is cut.
const MAX_BYTES: usize = 3 << 20;

/// What an attribute has beside its key and its value, such as braces.
const OVERHEAD: usize = 48;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct KeyValue {
    pub(super) key: String,
    pub(super) value: AnyValue,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) enum AnyValue {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "boolValue")]
    Bool(bool),
    #[serde(rename = "intValue", serialize_with = "as_text")]
    Int(i64),
    #[serde(rename = "doubleValue")]
    Double(f64),
    #[serde(rename = "arrayValue")]
    Array { values: Vec<Self> },
}

/// The attributes of a span, within a size.
#[derive(Debug)]
pub(super) struct Attributes {
    list: Vec<KeyValue>,
    /// The bytes that further attributes may have.
    left: usize,
}

impl Attributes {
    pub(super) fn new() -> Self {
        Self::within(MAX_BYTES)
    }

    pub(super) fn within(bytes: usize) -> Self {
        Self {
            list: Vec::new(),
            left: bytes,
        }
    }

    pub(super) fn into_list(self) -> Vec<KeyValue> {
        self.list
    }

    /// Adds a text, unless it is empty.
    pub(super) fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.add(key, |left| AnyValue::Text(cut(text, left)));
        }
    }

    /// Adds a value as a text: a text as it is, anything else as JSON.
    pub(super) fn text_or_json(&mut self, key: &str, value: &Value) {
        match value {
            Value::String(text) => self.text(key, text),
            json => self.text(key, &json.to_string()),
        }
    }

    /// Adds a value as a text whose reader expects JSON, such as the arguments of a tool.
    pub(super) fn json(&mut self, key: &str, value: &Value) {
        match value {
            // `1` as a text would be read as a number.
            Value::String(text) if serde_json::from_str::<Value>(text).is_err() => {
                self.text(key, text);
            }
            json => self.text(key, &json.to_string()),
        }
    }

    pub(super) fn number(&mut self, key: &str, number: Option<u64>) {
        // No count that a store accepts is larger.
        if let Some(number) = number.and_then(|number| i64::try_from(number).ok()) {
            self.add(key, |_| AnyValue::Int(number));
        }
    }

    fn float(&mut self, key: &str, number: f64) {
        self.add(key, |_| AnyValue::Double(number));
    }

    /// Adds a value in its own type. An object, which some backends don't show, is added as JSON.
    pub(super) fn value(&mut self, key: &str, value: &Value) {
        match value {
            Value::Null => {}
            Value::Array(items) if items.iter().all(|item| scalar(item).is_some()) => {
                let length = value.to_string().len();
                if length < self.left {
                    let values = items.iter().filter_map(scalar).collect();
                    self.add(key, |_| AnyValue::Array { values });
                    self.left = self.left.saturating_sub(length);
                }
            }
            Value::Array(_) | Value::Object(_) | Value::String(_) => self.text_or_json(key, value),
            Value::Bool(_) | Value::Number(_) => {
                if let Some(value) = scalar(value) {
                    self.add(key, |_| value);
                }
            }
        }
    }

    /// Adds the usage of a call, or the total of a run.
    pub(super) fn usage(&mut self, usage: &Usage) {
        let cache_write = usage.cache_write_tokens;
        self.text(
            "gen_ai.provider.name",
            usage.provider.as_deref().unwrap_or_default(),
        );
        for (key, tokens) in [
            ("gen_ai.usage.input_tokens", usage.input_tokens),
            (
                "gen_ai.usage.cache_read.input_tokens",
                usage.cache_read_tokens,
            ),
            // The newer name, and the one that more backends know.
            ("gen_ai.usage.cache_write.input_tokens", cache_write),
            ("gen_ai.usage.cache_creation.input_tokens", cache_write),
            ("gen_ai.usage.output_tokens", usage.output_tokens),
            (
                "gen_ai.usage.reasoning.output_tokens",
                usage.thinking_tokens,
            ),
            // The names of OpenInference, which Phoenix shows.
            ("llm.token_count.prompt", usage.input_tokens),
            ("llm.token_count.completion", usage.output_tokens),
        ] {
            self.number(key, tokens);
        }
        if let Some(micros) = usage.cost_micros {
            self.float("gen_ai.usage.cost", micros as f64 / 1e6);
        }
    }

    /// Adds an attribute, unless there is one with this key or no room is left.
    fn add(&mut self, key: &str, value: impl FnOnce(usize) -> AnyValue) {
        let overhead = OVERHEAD + length(key);
        let is_known = self.list.iter().any(|it| it.key == key);
        if is_known || self.left <= overhead {
            return;
        }
        let value = value(self.left - overhead);
        if let AnyValue::Text(text) = &value {
            self.left = self.left.saturating_sub(length(text));
        }
        self.left = self.left.saturating_sub(overhead);
        self.list.push(KeyValue {
            key: key.to_owned(),
            value,
        });
    }
}

fn scalar(value: &Value) -> Option<AnyValue> {
    match value {
        Value::String(text) => Some(AnyValue::Text(text.clone())),
        Value::Bool(value) => Some(AnyValue::Bool(*value)),
        Value::Number(number) => Some(match number.as_i64() {
            Some(number) => AnyValue::Int(number),
            None => AnyValue::Double(number.as_f64()?),
        }),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Writes a 64-bit number, which is a string in the JSON of protobuf.
pub(super) fn as_text<S: Serializer>(
    number: &impl Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Cuts a text to this many bytes of JSON.
pub(super) fn cut(text: &str, bytes: usize) -> String {
    /// Ends a text that is cut.
    const CUT: &str = "… (cut)";

    if length(text) <= bytes {
        return text.to_owned();
    }
    let mut left = bytes.saturating_sub(CUT.len());
    let fitting = text.char_indices().find_map(|(place, it)| {
        let length = escaped(it);
        match left.checked_sub(length) {
            Some(rest) => {
                left = rest;
                None
            }
            None => Some(place),
        }
    });
    let mut start = text[..fitting.unwrap_or(text.len())].to_owned();
    start.push_str(CUT);
    start
}

/// Returns the length of a text inside JSON.
fn length(text: &str) -> usize {
    text.chars().map(escaped).sum()
}

fn escaped(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn as_json(attributes: Attributes) -> Value {
        serde_json::to_value(attributes.into_list()).unwrap()
    }

    #[test]
    fn values_have_the_types_of_otlp() {
        let mut attributes = Attributes::new();
        attributes.text("empty", "");
        attributes.value("null", &json!(null));
        attributes.value("int", &json!(-5));
        attributes.value("big", &json!(u64::MAX));
        attributes.value("list", &json!(["a", 1]));
        attributes.value("object", &json!({"a": [1]}));
        attributes.value("flag", &json!(true));
        attributes.value("int", &json!("not added again"));
        assert_eq!(
            as_json(attributes),
            json!([
                {"key": "int", "value": {"intValue": "-5"}},
                {"key": "big", "value": {"doubleValue": u64::MAX as f64}},
                {"key": "list", "value": {"arrayValue": {"values": [
                    {"stringValue": "a"}, {"intValue": "1"},
                ]}}},
                {"key": "object", "value": {"stringValue": "{\"a\":[1]}"}},
                {"key": "flag", "value": {"boolValue": true}},
            ])
        );
    }

    #[test]
    fn a_text_that_would_be_read_as_json_is_quoted() {
        let mut attributes = Attributes::new();
        attributes.json("text", &json!("2 hits"));
        attributes.json("digit", &json!("1"));
        attributes.json("number", &json!(1));
        let values = as_json(attributes);
        let texts = ["2 hits", "\"1\"", "1"];
        for (value, text) in values.as_array().unwrap().iter().zip(texts) {
            assert_eq!(value["value"]["stringValue"], text);
        }
    }

    #[test]
    fn attributes_are_cut_to_a_size() {
        for text in ["x", "\"", "\u{1b}", "€", "\n"] {
            let mut attributes = Attributes::within(10_000);
            attributes.text("a", &text.repeat(20_000));
            attributes.text("b", "no room");
            attributes.value("c", &json!(["no", "room"]));
            let list = as_json(attributes);
            assert_eq!(list.as_array().unwrap().len(), 1);
            let length = list.to_string().len();
            assert!((9_800..=10_100).contains(&length), "{text:?}: {length}");
            let value = list[0]["value"]["stringValue"].as_str().unwrap();
            assert!(value.starts_with(text) && value.ends_with("… (cut)"));
        }
    }
}
