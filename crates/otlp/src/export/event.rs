//! What the events of a run become.

use runtrail_audit::{SkillRunLog, Usage};
use serde_json::{Map, Value};

use super::attributes::Attributes;
use super::span::{Kind, SpanEvent, nanos};

/// The attribute with the parts of a payload that have no attribute of their own.
const PAYLOAD: &str = "runtrail.payload";

/// Texts in the names of OpenInference. Phoenix shows no messages of OpenTelemetry that lack a
/// member of its schema, such as the reason why an answer ended.
pub(super) const INPUT: &str = "input.value";
pub(super) const OUTPUT: &str = "output.value";

/// The most bytes of the payload of an event of a span, as JSON.
const MAX_EVENT_BYTES: usize = 4 << 10;

/// What a span is, apart from its ids and its times.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    pub(super) error: Option<String>,
}

/// What an event becomes.
pub(super) enum Form {
    ModelCall,
    ToolCall,
    Span,
    /// An event of the run's span.
    SpanEvent,
}

/// Returns what an event becomes. Whatever has a usage is a model call, so that none is lost.
pub(super) fn form(event: &SkillRunLog) -> Form {
    match event.event_type.as_str() {
        "model_call" => Form::ModelCall,
        "tool_call" => Form::ToolCall,
        "span" if event.payload["name"].is_string() => Form::Span,
        _ if event.usage.is_some() => Form::ModelCall,
        _ => Form::SpanEvent,
    }
}

pub(super) fn model_call(payload: Value, usage: Option<&Usage>) -> Parts {
    let mut payload = Payload::of(payload);
    let mut attributes = operation("chat", "LLM");
    let request = payload.take_object("request");
    let model = usage.and_then(|usage| usage.model.as_deref());
    let requested = request.get("model").and_then(Value::as_str).or(model);
    let requested = requested.unwrap_or_default();
    attributes.text("gen_ai.request.model", requested);
    attributes.text("gen_ai.response.model", model.unwrap_or_default());
    attributes.text("llm.model_name", model.unwrap_or_default());
    if let Some(usage) = usage {
        attributes.usage(usage);
    }
    for (name, value) in &request {
        attributes.value(&format!("gen_ai.request.{name}"), value);
    }
    if let Some(id) = payload.take("response_id") {
        attributes.text_or_json("gen_ai.response.id", &id);
    }
    if let Some(reasons) = payload.take("finish_reasons") {
        attributes.value("gen_ai.response.finish_reasons", &reasons);
    }
    let output = payload.take("output");
    if let Some(messages) = output.as_ref().filter(|output| are_messages(output)) {
        attributes.json("gen_ai.output.messages", messages);
    }
    if let Some(system) = payload.take("system") {
        attributes.text_or_json("gen_ai.system_instructions", &system);
    }
    // Of the conversation so far; the receiver computes it again.
    payload.take("messages_sha256");
    let messages = payload.take("messages");
    let messages = messages.filter(|messages| *messages != Value::Array(Vec::new()));
    if let Some(messages) = &messages {
        attributes.text_or_json("gen_ai.input.messages", messages);
    }
    for (name, value) in [(INPUT, messages), (OUTPUT, output)] {
        if let Some(value) = value {
            attributes.text_or_json(name, &value);
        }
    }
    let name = match model.unwrap_or(requested) {
        "" => "chat".to_owned(),
        model => format!("chat {model}"),
    };
    payload.finish(name, Kind::Client, attributes)
}

pub(super) fn tool_call(payload: Value, usage: Option<&Usage>) -> Parts {
    let mut payload = Payload::of(payload);
    let mut attributes = operation("execute_tool", "TOOL");
    let tool = payload.take_text("tool");
    let name = match tool.as_str() {
        "" => "execute_tool".to_owned(),
        tool => format!("execute_tool {tool}"),
    };
    attributes.text("gen_ai.tool.name", &tool);
    if let Some(id) = payload.take("call_id") {
        attributes.text_or_json("gen_ai.tool.call.id", &id);
    }
    if let Some(usage) = usage {
        attributes.usage(usage);
    }
    for (name, keys) in [
        ("arguments", ["gen_ai.tool.call.arguments", INPUT]),
        ("result", ["gen_ai.tool.call.result", OUTPUT]),
    ] {
        if let Some(value) = payload.take(name) {
            for key in keys {
                attributes.json(key, &value);
            }
        }
    }
    payload.finish(name, Kind::Internal, attributes)
}

pub(super) fn span(payload: Value, usage: Option<&Usage>) -> Parts {
    let mut payload = Payload::of(payload);
    let mut attributes = Attributes::new();
    if let Some(usage) = usage {
        attributes.usage(usage);
    }
    let name = match payload.take_text("name") {
        name if name.is_empty() => "span".to_owned(),
        name => name,
    };
    payload.finish(name, Kind::Internal, attributes)
}

pub(super) fn span_event(event: &SkillRunLog) -> SpanEvent {
    let mut attributes = Attributes::within(MAX_EVENT_BYTES);
    attributes.text(PAYLOAD, &event.payload.to_string());
    SpanEvent {
        time_unix_nano: nanos(event.created_at.unwrap_or_default()),
        name: match event.event_type.as_str() {
            "" => "event".to_owned(),
            event_type => event_type.to_owned(),
        },
        attributes: attributes.into_list(),
    }
}

/// Whether a value has the form of messages: objects with a role.
pub(super) fn are_messages(value: &Value) -> bool {
    let messages = value.as_array().filter(|messages| !messages.is_empty());
    messages.is_some_and(|messages| messages.iter().all(|it| it["role"].is_string()))
}

/// Returns attributes with the operation of a span, in the names of OpenTelemetry and of
/// OpenInference.
pub(super) fn operation(operation: &str, kind: &str) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.text("gen_ai.operation.name", operation);
    attributes.text("openinference.span.kind", kind);
    attributes
}

/// The parts of a payload that have no attribute yet.
struct Payload(Map<String, Value>);

impl Payload {
    fn of(payload: Value) -> Self {
        Self(match payload {
            Value::Object(members) => members,
            Value::Null => Map::new(),
            other => Map::from_iter([("value".to_owned(), other)]),
        })
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// Removes a text; any other value stays.
    fn take_text(&mut self, name: &str) -> String {
        match self.0.get(name) {
            Some(Value::String(_)) => match self.0.remove(name) {
                Some(Value::String(text)) => text,
                _ => String::new(),
            },
            _ => String::new(),
        }
    }

    /// Removes an object; any other value stays.
    fn take_object(&mut self, name: &str) -> Map<String, Value> {
        match self.0.remove(name) {
            Some(Value::Object(members)) => members,
            Some(other) => {
                self.0.insert(name.to_owned(), other);
                Map::new()
            }
            None => Map::new(),
        }
    }

    /// Adds the attributes that were received with a span, and the rest as JSON.
    fn finish(mut self, name: String, kind: Kind, mut attributes: Attributes) -> Parts {
        self.take("span_id");
        let error = self.take("error").map(|error| match error {
            Value::String(text) => text,
            other => other.to_string(),
        });
        for (name, value) in self.take_object("attributes") {
            attributes.value(&name, &value);
        }
        if !self.0.is_empty() {
            attributes.text(PAYLOAD, &Value::Object(self.0).to_string());
        }
        Parts {
            name,
            kind,
            attributes,
            error,
        }
    }
}
