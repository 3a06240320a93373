use serde_json::{Map, Value};

use crate::attributes::Attributes;
use crate::span::{SpanEvent, SpanStatus};
use crate::vocabulary::Vocabulary;

/// What begins the stack trace of a program in Python.
const TRACEBACK: &str = "Traceback (most recent call last)";

/// Returns why a span failed; `None` if it succeeded. A span with the status `Ok` has succeeded,
/// even if it has recorded exceptions on the way.
pub(crate) fn of_span(
    vocabulary: Vocabulary<'_>,
    attributes: &Map<String, Value>,
    events: &[SpanEvent],
    status: &SpanStatus,
) -> Option<String> {
    let message = match status {
        SpanStatus::Ok => return None,
        SpanStatus::Error(message) => Some(message.as_str()),
        SpanStatus::Unset => None,
    };
    let exception = || {
        let mut exceptions = events
            .iter()
            .rev()
            .filter(|event| event.name == "exception");
        exceptions.find_map(|event| {
            let kind = event.attributes.text(&["exception.type"]);
            let message = event.attributes.text(&["exception.message"]);
            match (kind, message) {
                (Some(kind), Some(message)) => Some(format!("{kind}: {message}")),
                (text, None) | (None, text) => text.map(str::to_owned),
            }
        })
    };
    let text = message.filter(|message| !message.is_empty());
    let attribute = || vocabulary.text(attributes, |names| names.error);
    let described = text
        .filter(|text| !text.contains(TRACEBACK))
        .map(str::to_owned)
        .or_else(exception)
        .or_else(|| text.or_else(attribute).map(str::to_owned));
    let has_failed = message.is_some() || of_attributes(vocabulary, attributes).is_some();
    described.or_else(|| has_failed.then(String::new))
}

/// Returns why a call failed according to its attributes; `None` if it succeeded.
pub(crate) fn of_attributes(
    vocabulary: Vocabulary<'_>,
    attributes: &Map<String, Value>,
) -> Option<String> {
    let error = vocabulary.text(attributes, |names| names.error);
    let success = vocabulary.conventions().find_map(|names| {
        let mut names = names.success.iter();
        names.find_map(|name| match attributes.get(*name)? {
            Value::Bool(success) => Some(*success),
            Value::String(success) => success.parse().ok(),
            _ => None,
        })
    });
    let is_error = attributes.get("error") == Some(&Value::Bool(true));
    match (success, error) {
        (Some(true), _) => None,
        (_, Some(error)) => Some(error.to_owned()),
        (Some(false), None) => Some("failed".to_owned()),
        (None, None) => is_error.then(String::new),
    }
}
