//! Redaction of keys, tokens and passwords.

mod forms;
mod names;

use serde_json::Value;

use super::{JSON_LEVELS, inside_json};

const REDACTED: &str = "[redacted]";

/// Replaces secrets in texts, and values whose names say that they are secret.
pub(super) fn redact(value: &mut Value) {
    redact_in(value, JSON_LEVELS);
}

/// Returns whether anything has changed.
fn redact_in(value: &mut Value, levels: usize) -> bool {
    match value {
        Value::String(text) => {
            let is_changed = inside_json(text, levels, |json| redact_in(json, levels - 1));
            match forms::redacted(text) {
                Some(redacted) => {
                    *text = redacted;
                    true
                }
                None => is_changed,
            }
        }
        Value::Array(items) => {
            let changed = items.iter_mut().map(|item| redact_in(item, levels));
            changed.fold(false, |changed, item| changed | item)
        }
        Value::Object(members) => {
            let mut is_changed = false;
            for (name, member) in members {
                let is_secret = names::is_secret(name) && redact_all(member);
                is_changed |= is_secret || redact_in(member, levels);
            }
            is_changed
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Replaces a secret value. Returns false for one that can't be secret: a boolean, or an object,
/// such as the schema of a parameter `password`.
fn redact_all(value: &mut Value) -> bool {
    match value {
        Value::String(_) | Value::Number(_) => *value = REDACTED.into(),
        Value::Array(items) if !items.iter().any(Value::is_object) => *value = REDACTED.into(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redacted(mut value: Value) -> Value {
        redact(&mut value);
        value
    }

    #[test]
    fn values_with_secret_names_are_redacted_also_in_json_texts() {
        assert_eq!(
            redacted(json!({
                "http.request.header.authorization": ["Basic YTpi"],
                "arguments": "{\"user\":\"a\",\"password\":\"hunter2\"}",
                "schema": {"password": {"type": "string"}},
                "has_token": true,
                "gen_ai.usage.input_tokens": 7,
            })),
            json!({
                "http.request.header.authorization": "[redacted]",
                "arguments": "{\"password\":\"[redacted]\",\"user\":\"a\"}",
                "schema": {"password": {"type": "string"}},
                "has_token": true,
                "gen_ai.usage.input_tokens": 7,
            })
        );
    }

    #[test]
    fn a_text_without_secrets_stays_as_it_is() {
        let text = json!("{ \"spaced\" : [1, 2] }");
        assert_eq!(redacted(text.clone()), text);
    }
}
