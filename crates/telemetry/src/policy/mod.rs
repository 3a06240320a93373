//! What is kept of texts and attributes.

mod limits;
mod media;
mod secrets;

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

/// A function that changes a value before it is kept.
type Redact = Arc<dyn Fn(&mut Value) + Send + Sync>;

/// What is kept of texts and attributes.
///
/// By default everything is, except for
///
/// - keys, tokens and passwords in well-known forms, or under names such as `api_key`: they become
///   `[redacted]`,
/// - base64 of images and files: it becomes its type, its length and its SHA-256,
/// - the part of a text above 64 KiB: its length and the SHA-256 of the whole text are appended,
/// - JSON nested deeper than 60 levels: it becomes a text,
/// - the largest attributes of a payload above 256 KiB: their names are listed as `omitted`.
///
/// ```
/// use runtrail_telemetry::Policy;
/// use serde_json::Value;
///
/// let policy = Policy::new().max_text_bytes(4 << 10).redact(|value| {
///     if let Value::String(text) = value {
///         *text = text.replace("Jane Doe", "[name]");
///     }
/// });
/// ```
#[derive(Clone)]
#[must_use]
pub struct Policy {
    has_content: bool,
    redacts_secrets: bool,
    max_text_bytes: usize,
    max_payload_bytes: usize,
    redact: Option<Redact>,
}

impl Policy {
    /// Creates a policy with the defaults.
    pub fn new() -> Self {
        Self {
            has_content: true,
            redacts_secrets: true,
            max_text_bytes: 64 << 10,
            max_payload_bytes: 256 << 10,
            redact: None,
        }
    }

    /// Leaves out prompts and answers, the arguments and results of tools, and the bodies of logs.
    /// Errors and attributes that no convention knows are kept.
    pub fn without_content(mut self) -> Self {
        self.has_content = false;
        self
    }

    /// Keeps keys, tokens and passwords.
    pub fn with_secrets(mut self) -> Self {
        self.redacts_secrets = false;
        self
    }

    /// Cuts longer texts.
    pub fn max_text_bytes(mut self, bytes: usize) -> Self {
        self.max_text_bytes = bytes;
        self
    }

    /// Leaves out the largest attributes of a larger payload.
    pub fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }

    /// Applies a function to every payload, message, input, output, error and name before it is
    /// cut. A payload is an object with the names of its attributes; anything else than an object
    /// in its place is dropped.
    pub fn redact(mut self, redact: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.redact = Some(Arc::new(redact));
        self
    }

    pub(crate) fn has_content(&self) -> bool {
        self.has_content
    }

    /// Returns what is kept of an object.
    pub(crate) fn object(&self, object: Map<String, Value>) -> Map<String, Value> {
        let mut object = Value::Object(object);
        self.clean(&mut object);
        let Value::Object(mut object) = object else {
            return Map::new();
        };
        for value in object.values_mut() {
            limits::limit(value, limits::MAX_LEVELS - 1, self.max_text_bytes);
        }
        limits::omit(&mut object, self.max_payload_bytes);
        object
    }

    /// Returns what is kept of messages. An event holds them in an array in its payload.
    pub(crate) fn messages(&self, mut messages: Vec<Value>) -> Vec<Value> {
        for message in &mut messages {
            self.clean(message);
            limits::limit(message, limits::MAX_LEVELS - 2, self.max_text_bytes);
            limits::replace(message, self.max_payload_bytes);
        }
        messages
    }

    /// Returns what is kept of a text.
    pub(crate) fn text(&self, text: impl Into<String>) -> String {
        let mut text = Value::String(text.into());
        self.clean(&mut text);
        limits::limit(&mut text, limits::MAX_LEVELS, self.max_text_bytes);
        match text {
            Value::String(text) => text,
            Value::Null => String::new(),
            value => value.to_string(),
        }
    }

    fn clean(&self, value: &mut Value) {
        media::replace(value);
        if self.redacts_secrets {
            secrets::redact(value);
        }
        if let Some(redact) = &self.redact {
            redact(value);
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("has_content", &self.has_content)
            .field("redacts_secrets", &self.redacts_secrets)
            .field("max_text_bytes", &self.max_text_bytes)
            .field("max_payload_bytes", &self.max_payload_bytes)
            .finish_non_exhaustive()
    }
}

/// Applies a function to the JSON in a text, such as the arguments of a tool in a message. The text
/// changes only if the function returns that the JSON has changed.
fn inside_json(text: &mut String, levels: usize, change: impl FnOnce(&mut Value) -> bool) -> bool {
    if levels == 0 || !text.starts_with(['{', '[']) {
        return false;
    }
    let Ok(mut json) = serde_json::from_str(text) else {
        return false;
    };
    let is_changed = change(&mut json);
    if is_changed {
        *text = json.to_string();
    }
    is_changed
}

/// How deep JSON in texts in JSON is searched.
const JSON_LEVELS: usize = 4;
