//! Messages in the forms in which they are sent.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::attributes::{any_json_or_text, json_or_text};
use crate::convention::{Convention, Names, has_prefix};
use crate::span::SpanEvent;
use crate::vocabulary::Vocabulary;

/// Higher indices in names of attributes aren't read.
const MAX_INDEX: usize = 9_999;

/// Longer names of attributes aren't read.
const MAX_PARTS: usize = 16;

/// Returns the messages in a text or a JSON value.
pub(crate) fn messages(value: Value) -> Vec<Value> {
    match json_or_text(value) {
        Value::Array(messages) => messages,
        Value::Object(mut request) => {
            // The JSON of a whole request, such as that to OpenAI or Gemini.
            let lists = ["messages", "contents"];
            let list = lists
                .iter()
                .find(|name| request.get(**name).is_some_and(Value::is_array));
            match list.and_then(|name| request.remove(*name)) {
                Some(Value::Array(messages)) => messages,
                _ => vec![user(Value::Object(request))],
            }
        }
        value => vec![user(value)],
    }
}

fn user(content: Value) -> Value {
    let message = [("role", "user".into()), ("content", content)];
    message
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<Map<_, _>>()
        .into()
}

/// Removes the attributes with these prefixes, such as `llm.input_messages.0.message.role`, and
/// returns the messages that they hold.
pub(crate) fn take_indexed(
    vocabulary: &Vocabulary<'_>,
    attributes: &mut Map<String, Value>,
    prefixes: impl Fn(&Convention) -> Names,
) -> Vec<Value> {
    let rest = |name: &str| {
        let mut conventions = vocabulary.conventions();
        let rest = conventions.find_map(|names| has_prefix(name, prefixes(names)));
        rest.map(str::to_owned)
    };
    let names = attributes
        .keys()
        .filter_map(|name| Some((name.clone(), rest(name)?)));
    let names: Vec<_> = names.collect();
    let mut root = Node::default();
    for (name, path) in names {
        let Some(value) = attributes.remove(&name) else {
            continue;
        };
        let parts = path
            .split('.')
            .filter(|part| !vocabulary.has(part, |names| names.fillers));
        let parts: Vec<&str> = parts.take(MAX_PARTS + 1).collect();
        let starts_with_index = parts.first().is_some_and(|part| index(part).is_some());
        if starts_with_index && parts.len() <= MAX_PARTS {
            root.insert(&parts, value);
        }
    }
    match root.into_value() {
        Some(Value::Array(messages)) => messages,
        _ => Vec::new(),
    }
}

/// A value whose parts come from several attributes. Indices never allocate: they only order.
#[derive(Default)]
struct Node {
    value: Option<Value>,
    members: BTreeMap<String, Self>,
    items: BTreeMap<usize, Self>,
}

impl Node {
    fn insert(&mut self, path: &[&str], value: Value) {
        let Some((part, path)) = path.split_first() else {
            self.value = Some(value);
            return;
        };
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        match index(part) {
            Some(index) => self.items.entry(index).or_default().insert(path, value),
            None if is_number => {}
            None => {
                let member = self.members.entry((*part).to_owned()).or_default();
                member.insert(path, value);
            }
        }
    }

    fn into_value(self) -> Option<Value> {
        if !self.members.is_empty() {
            let members = self.members.into_iter();
            let members = members.filter_map(|(name, node)| Some((name, node.into_value()?)));
            return Some(Value::Object(members.collect()));
        }
        if !self.items.is_empty() {
            let items = self.items.into_values().filter_map(Self::into_value);
            return Some(Value::Array(items.collect()));
        }
        self.value
    }
}

fn index(part: &str) -> Option<usize> {
    part.parse().ok().filter(|index| *index <= MAX_INDEX)
}

/// Returns the messages that are events of a span, such as `gen_ai.user.message`.
pub(crate) fn of_events<'e>(
    events: impl Iterator<Item = &'e SpanEvent>,
    default_role: &str,
) -> Vec<Value> {
    let message = |event: &SpanEvent| {
        let role = match event.name.split('.').nth(1) {
            Some(role) if event.name.ends_with(".message") => role,
            _ => default_role,
        };
        let mut message = Map::from_iter([("role".to_owned(), role.into())]);
        for (name, value) in &event.attributes {
            // The provider, which the span names, too.
            if !name.starts_with("gen_ai.") {
                message.insert(name.clone(), json_or_text(value.clone()));
            }
        }
        Value::Object(message)
    };
    events.map(message).collect()
}

/// Returns the content of a message of LangChain that has the result of a tool, and the id of the
/// call. Any other result is returned unchanged.
pub(crate) fn tool_message(mut result: Value) -> (Value, Option<Value>) {
    let data = &result["data"];
    let Some(call_id) = data["tool_call_id"].as_str() else {
        return (result, None);
    };
    if result["type"] != "tool" {
        return (result, None);
    }
    let call_id = call_id.into();
    match data["artifact"].is_null() {
        true => (
            any_json_or_text(result["data"]["content"].take()),
            Some(call_id),
        ),
        false => (result, Some(call_id)),
    }
}

/// Returns the output of a run as a text: that of the last message, if there are messages with
/// texts.
pub(crate) fn to_text(value: Value) -> String {
    let json = match value {
        Value::String(text) => match json_or_text(text.clone().into()) {
            Value::String(_) => return text,
            json => match last_text(&json) {
                Some(last) => return last,
                None => return text,
            },
        },
        json => json,
    };
    last_text(&json).unwrap_or_else(|| json.to_string())
}

fn last_text(messages: &Value) -> Option<String> {
    let messages = match messages {
        // The state of a graph.
        Value::Object(state) if state.len() == 1 => state.get("messages")?,
        messages => messages,
    };
    let message = messages.as_array()?.last()?;
    // A message of LangChain has its content in `data`.
    let message = message.get("data").unwrap_or(message);
    let content = message.get("parts").or_else(|| message.get("content"))?;
    let text = match content {
        Value::String(text) => text.clone(),
        parts => {
            let parts = parts.as_array()?.iter();
            let texts = parts.filter_map(|part| {
                let text = part.get("content").or_else(|| part.get("text"))?;
                text.as_str()
                    .filter(|_| part.get("type").is_none_or(|kind| kind == "text"))
            });
            texts.collect::<Vec<_>>().join("\n")
        }
    };
    (!text.is_empty()).then_some(text)
}
