use std::borrow::Cow;
use std::time::Duration;

use runtrail_audit::Usage;
use serde_json::{Map, Value, json};

/// An event to [record](crate::RunHandle::record) through a handle, which adds the id of the run,
/// the sequence and the current time.
///
/// ```
/// use std::time::Duration;
///
/// use runtrail_audit::Usage;
/// use runtrail_record::Event;
/// use serde_json::json;
///
/// let usage = Usage::new().model("claude-sonnet-4-5").input_tokens(1_200).output_tokens(80);
/// let answer = Event::model_call(usage)
///     .payload(json!({"text": "In short: yes."}))
///     .duration(Duration::from_millis(840));
/// let search = Event::tool_call("search", json!({"query": "tides"})).result(json!(["a", "b"]));
/// let failed = Event::tool_call("fetch", json!({"page": 7})).error("there is no page 7");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Event {
    pub(crate) event_type: Cow<'static, str>,
    pub(crate) payload: Value,
    pub(crate) duration: Option<Duration>,
    pub(crate) usage: Option<Usage>,
    pub(crate) is_tool_call: bool,
}

impl Event {
    /// Creates an event of any type; see [`SkillRunLog`](runtrail_audit::SkillRunLog) for the
    /// limits.
    pub fn new(event_type: impl Into<String>, payload: Value) -> Self {
        Self::of_type(event_type.into().into(), payload)
    }

    /// Like [`new`](Self::new), but takes the name of a type of our own without a copy.
    pub(crate) fn of_type(event_type: Cow<'static, str>, payload: Value) -> Self {
        Self {
            event_type,
            payload,
            duration: None,
            usage: None,
            is_tool_call: false,
        }
    }

    /// Creates an event of type `model_call` with the payload `{}`. Its tokens are added to those
    /// of the run.
    pub fn model_call(usage: Usage) -> Self {
        Self::of_type("model_call".into(), Value::Object(Map::new())).usage(usage)
    }

    /// Creates an event of type `tool_call` with the payload `{"tool": …, "arguments": …}`, which
    /// counts as a tool call of the run.
    pub fn tool_call(tool: impl Into<String>, arguments: Value) -> Self {
        let payload = json!({ "tool": tool.into(), "arguments": arguments });
        Self {
            is_tool_call: true,
            ..Self::of_type("tool_call".into(), payload)
        }
    }

    /// Adds the result of a call to the payload, as `result`.
    pub fn result(self, result: Value) -> Self {
        self.member("result", result)
    }

    /// Adds the error of a failed call to the payload, as `error`.
    pub fn error(self, error: impl Into<String>) -> Self {
        self.member("error", Value::String(error.into()))
    }

    /// Adds a member to a payload that is an object. Another payload becomes one, with the member
    /// `value`.
    fn member(mut self, name: &str, value: Value) -> Self {
        let mut members = match self.payload {
            Value::Object(members) => members,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        members.insert(name.to_owned(), value);
        self.payload = Value::Object(members);
        self
    }

    /// Replaces the payload.
    pub fn payload(mut self, payload: Value) -> Self {
        self.payload = payload;
        self
    }

    /// Sets how long the call took.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Sets the usage of the call. Its tokens are added to those of the run.
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }
}
