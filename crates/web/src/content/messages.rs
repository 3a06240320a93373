//! The messages of model calls, in the forms in which they are recorded.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::Extent;
use super::json::json;
use super::markdown::formatted;
use crate::format::line;

/// One message.
#[derive(Debug, PartialEq)]
pub(crate) struct Message<'a> {
    /// Such as `user`; empty if unknown.
    pub(crate) role: &'a str,
    pub(crate) parts: Vec<Part<'a>>,
}

/// A part of a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Part<'a> {
    Text(&'a str),
    Thinking(&'a str),
    ToolCall {
        tool: &'a str,
        arguments: Option<&'a Value>,
    },
    ToolResult(&'a Value),
    Other(&'a Value),
}

/// Reads a list of messages, a single one, or a plain text of this role; `None` for anything else.
pub(crate) fn messages<'a>(value: &'a Value, role: &'a str) -> Option<Vec<Message<'a>>> {
    match value {
        Value::String(text) => Some(vec![Message {
            role,
            parts: vec![Part::Text(text)],
        }]),
        Value::Array(items) => items.iter().map(message).collect(),
        single => Some(vec![message(single)?]),
    }
}

fn message(value: &Value) -> Option<Message<'_>> {
    let object = value.as_object()?;
    let kind = object.get("type").and_then(Value::as_str);
    // LangChain has the content in `data`, and the role as the type.
    let (object, role) = match object.get("data").and_then(Value::as_object) {
        Some(data) => (data, kind),
        None => (object, object.get("role").and_then(Value::as_str).or(kind)),
    };
    let role = match role? {
        "human" => "user",
        "ai" => "assistant",
        role => role,
    };
    let content = object.get("parts").or_else(|| object.get("content"));
    let mut parts = match content {
        Some(result) if matches!(role, "tool" | "function") && !result.is_array() => {
            vec![Part::ToolResult(result)]
        }
        Some(Value::Array(parts)) => parts.iter().map(part).collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(single) => vec![part(single)],
    };
    let calls = object.get("tool_calls").and_then(Value::as_array);
    parts.extend(calls.into_iter().flatten().map(tool_call_or_other));
    if parts.is_empty() && content.is_none() {
        // Such as a message that was replaced by its digest.
        parts.push(Part::Other(value));
    }
    Some(Message { role, parts })
}

fn part(value: &Value) -> Part<'_> {
    let Some(object) = value.as_object() else {
        return match value {
            Value::String(text) => Part::Text(text),
            other => Part::Other(other),
        };
    };
    let first = |names: &[&str]| names.iter().find_map(|name| object.get(*name));
    let first_text = |names: &[&str]| first(names).and_then(Value::as_str);
    let kind = object.get("type").and_then(Value::as_str);
    let part = match kind {
        Some("reasoning" | "thinking") => {
            first_text(&["content", "thinking", "text"]).map(Part::Thinking)
        }
        Some("tool_call" | "tool_use" | "tool-call" | "function_call") => tool_call(object),
        Some("tool_call_response" | "tool_result" | "tool-result" | "function_call_output") => {
            first(&["response", "result", "content", "output"]).map(Part::ToolResult)
        }
        Some("text" | "input_text" | "output_text") => {
            first_text(&["content", "text"]).map(Part::Text)
        }
        // Gemini's parts have no type.
        None => match (object.get("functionCall"), object.get("functionResponse")) {
            (Some(Value::Object(call)), _) => tool_call(call),
            (_, Some(result)) => result.get("response").map(Part::ToolResult),
            _ => object.get("text").and_then(Value::as_str).map(Part::Text),
        },
        Some(_) => None,
    };
    part.unwrap_or(Part::Other(value))
}

fn tool_call_or_other(value: &Value) -> Part<'_> {
    let call = value.as_object().and_then(tool_call);
    call.unwrap_or(Part::Other(value))
}

fn tool_call(call: &Map<String, Value>) -> Option<Part<'_>> {
    let call = match call.get("function") {
        Some(Value::Object(function)) => function,
        _ => call,
    };
    let tool = call
        .get("name")
        .or_else(|| call.get("toolName"))?
        .as_str()?;
    let arguments = ["arguments", "input", "args"];
    let arguments = arguments.iter().find_map(|name| call.get(*name));
    Some(Part::ToolCall { tool, arguments })
}

/// Renders messages in their order.
pub(crate) fn render_messages(messages: &[Message<'_>], extent: Extent<'_>) -> Markup {
    html! {
        ol.messages {
            @for message in messages {
                li.message {
                    @if !message.role.is_empty() {
                        p.role { (line(message.role)) }
                    }
                    @for part in &message.parts { (render_part(part, extent)) }
                }
            }
        }
    }
}

fn render_part(part: &Part<'_>, extent: Extent<'_>) -> Markup {
    match part {
        Part::Text(text) => formatted(text, extent),
        Part::Thinking(text) => html! {
            details.thinking { summary { "Thinking" } (formatted(text, extent)) }
        },
        Part::ToolCall { tool, arguments } => html! {
            div.tool {
                p { "Calls " code { (line(tool)) } }
                @if let Some(arguments) = arguments { (json(arguments, extent)) }
            }
        },
        Part::ToolResult(result) => html! { div.tool { p { "Result" } (json(result, extent)) } },
        Part::Other(value) => json(value, extent),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    fn only(value: &Value) -> (&str, Vec<Part<'_>>) {
        let mut read = messages(value, "").unwrap();
        assert_eq!(read.len(), 1);
        let message = read.remove(0);
        (message.role, message.parts)
    }

    #[test]
    fn texts_are_found_in_every_form() {
        for message in [
            value!([{"role": "user", "content": "why?"}]),
            value!({"role": "user", "content": "why?"}),
            value!([{"role": "user", "content": [{"type": "text", "text": "why?"}]}]),
            value!([{"role": "user", "parts": [{"type": "text", "content": "why?"}]}]),
            value!([{"role": "user", "parts": [{"text": "why?"}]}]),
            value!([{"type": "human", "data": {"content": "why?", "type": "human"}}]),
        ] {
            assert_eq!(
                only(&message),
                ("user", vec![Part::Text("why?")]),
                "{message}"
            );
        }
    }

    #[test]
    fn tool_calls_and_results_are_found_in_every_form() {
        let arguments = value!({"city": "Oslo"});
        for part in [
            value!({"type": "tool_call", "name": "weather", "arguments": arguments}),
            value!({"type": "tool_use", "name": "weather", "input": arguments}),
            value!({"type": "tool-call", "toolName": "weather", "input": arguments}),
            value!({"functionCall": {"name": "weather", "args": arguments}}),
        ] {
            let message = value!({"role": "assistant", "content": [part]});
            let expected = Part::ToolCall {
                tool: "weather",
                arguments: Some(&arguments),
            };
            assert_eq!(only(&message), ("assistant", vec![expected]), "{message}");
        }
        let function = value!({"name": "weather", "arguments": "{}"});
        let message = value!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": function},
        ]});
        let text = value!("{}");
        let expected = Part::ToolCall {
            tool: "weather",
            arguments: Some(&text),
        };
        assert_eq!(only(&message).1, [expected]);

        let result = value!("sunny");
        for message in [
            value!({"role": "tool", "content": "sunny", "tool_call_id": "1"}),
            value!({"role": "user", "content": [{"type": "tool_result", "content": "sunny"}]}),
            value!({"role": "tool", "parts": [
                {"type": "tool_call_response", "response": "sunny"},
            ]}),
        ] {
            assert_eq!(only(&message).1, [Part::ToolResult(&result)], "{message}");
        }
    }

    #[test]
    fn anything_else_is_shown_as_json() {
        for other in [
            value!(1),
            value!([1]),
            value!({"a": 1}),
            value!([{"role": 1}]),
        ] {
            assert_eq!(messages(&other, "user"), None, "{other}");
        }
        let image = value!({"type": "image", "bytes": 10});
        let message = value!({"role": "user", "content": [image]});
        assert_eq!(only(&message).1, [Part::Other(&image)]);
        let digest = value!({"role": "user", "bytes": 9, "sha256": "00"});
        assert_eq!(only(&digest).1, [Part::Other(&digest)]);
    }

    #[test]
    fn messages_are_never_markup() {
        let hostile = value!([
            {"role": "<script>", "content": "<script>alert(1)</script> [x](javascript:alert(1))"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "<script>"},
                {"type": "tool_use", "name": "<script>", "input": {"<script>": "<script>"}},
                {"type": "<script>", "x": "<script>"},
            ]},
        ]);
        let read = messages(&hostile, "").unwrap();
        let html = render_messages(&read, Extent::Whole).into_string();
        assert!(
            !html.contains("<script") && !html.contains("href"),
            "{html}"
        );
    }
}
