//! What an event is about, on one line.

use std::io::{self, Write};

use runtrail_audit::SkillRunLog;
use serde_json::Value;

use super::messages::{Part, messages};
use super::text::one_line;

/// The length of a preview in characters.
const MAX_CHARS: usize = 160;

/// What a row shows of an event's payload.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Preview {
    /// The name of what was called; empty if there is none.
    pub(crate) name: String,
    /// The beginning of what happened.
    pub(crate) text: String,
    /// Whether the payload says that it failed.
    pub(crate) is_error: bool,
}

/// Returns the preview of an event by its type and the names that Runtrail's own recorders use.
pub(crate) fn preview(event: &SkillRunLog) -> Preview {
    let payload = &event.payload;
    let member = |name| payload.get(name).filter(|value| !value.is_null());
    let text = |name| member(name).and_then(Value::as_str);
    let error = member("error").map(line);
    let is_error = error.is_some();
    let (name, shown) = match event.event_type.as_str() {
        "model_call" => (None, answer(payload)),
        "tool_call" => (text("tool"), member("arguments").map(line)),
        "span" => (text("name"), None),
        "log" => (text("name"), member("body").map(line)),
        _ => match text("text") {
            Some(printed) => return Preview::of_text(printed),
            None => (None, Some(line(payload))),
        },
    };
    let shown = error.or(shown).unwrap_or_else(|| match name {
        // The other members are about the call, not its contents.
        Some(_) => String::new(),
        None => line(payload),
    });
    Preview {
        name: one_line(name.unwrap_or_default(), MAX_CHARS),
        text: shown,
        is_error,
    }
}

impl Preview {
    fn of_text(text: &str) -> Self {
        Self {
            text: one_line(text, MAX_CHARS),
            ..Self::default()
        }
    }
}

/// Returns the beginning of what a model has answered: a text, or else the tools that it calls.
fn answer(payload: &Value) -> Option<String> {
    let output = payload.get("output").or_else(|| payload.get("text"))?;
    let messages = messages(output, "assistant")?;
    let parts = || messages.iter().flat_map(|message| &message.parts);
    let text = parts().find_map(|part| match part {
        Part::Text(text) if !text.trim().is_empty() => Some(one_line(text, MAX_CHARS)),
        _ => None,
    });
    text.or_else(|| {
        let tools = parts().filter_map(|part| match part {
            Part::ToolCall { tool, .. } => Some(*tool),
            _ => None,
        });
        let tools: Vec<_> = tools.take(MAX_CHARS).collect();
        (!tools.is_empty()).then(|| one_line(&format!("calls {}", tools.join(", ")), MAX_CHARS))
    })
}

/// Returns a text as it is, and any other value as JSON.
fn line(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text, MAX_CHARS),
        value => {
            // Stops when enough is written: the value may be large.
            let mut beginning = Beginning(Vec::new());
            _ = serde_json::to_writer(&mut beginning, value);
            one_line(&String::from_utf8_lossy(&beginning.0), MAX_CHARS)
        }
    }
}

/// The beginning of what is written. It refuses what is beyond.
struct Beginning(Vec<u8>);

impl Beginning {
    /// More than the longest line, at up to four bytes a character.
    const MAX_BYTES: usize = 4 * MAX_CHARS + 4;
}

impl Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = Self::MAX_BYTES - self.0.len();
        if left == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let taken = left.min(bytes.len());
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(event_type: &str, payload: Value) -> (String, String, bool) {
        let preview = preview(&SkillRunLog::new("run-1", 1, event_type, payload));
        (preview.name, preview.text, preview.is_error)
    }

    #[test]
    fn each_type_shows_what_it_is_about() {
        let answer = json!([{"role": "assistant", "content": "because"}]);
        let calls = json!([{"role": "assistant", "parts": [
            {"type": "tool_call", "name": "search", "arguments": {}},
        ]}]);
        for (event_type, payload, name, text, is_error) in [
            (
                "model_call",
                json!({"output": answer, "request": {}}),
                "",
                "because",
                false,
            ),
            (
                "model_call",
                json!({"output": calls}),
                "",
                "calls search",
                false,
            ),
            ("model_call", json!({"text": "hi"}), "", "hi", false),
            (
                "model_call",
                json!({"error": "too long"}),
                "",
                "too long",
                true,
            ),
            ("model_call", json!({"a": 1}), "", r#"{"a":1}"#, false),
            (
                "tool_call",
                json!({"tool": "fetch", "arguments": {"url": "x"}}),
                "fetch",
                r#"{"url":"x"}"#,
                false,
            ),
            (
                "tool_call",
                json!({"tool": "fetch", "error": "timeout"}),
                "fetch",
                "timeout",
                true,
            ),
            (
                "span",
                json!({"name": "step", "span_id": "1"}),
                "step",
                "",
                false,
            ),
            (
                "log",
                json!({"name": "prompt", "body": "hello"}),
                "prompt",
                "hello",
                false,
            ),
            (
                "stdout",
                json!({"text": "one\ttwo", "newline": false}),
                "",
                "one two",
                false,
            ),
            ("exit", json!({"code": 0}), "", r#"{"code":0}"#, false),
            ("other", json!("text"), "", "text", false),
        ] {
            let expected = (name.to_owned(), text.to_owned(), is_error);
            assert_eq!(
                shown(event_type, payload.clone()),
                expected,
                "{event_type} {payload}"
            );
        }
    }

    #[test]
    fn previews_are_short() {
        for payload in [
            json!("ä".repeat(100_000)),
            json!({"text": "x".repeat(100_000)}),
            json!(vec![1; 100_000]),
            json!({"é".repeat(100_000): 1}),
        ] {
            let (_, text, _) = shown("other", payload);
            assert_eq!(text.chars().count(), MAX_CHARS + 1, "{text}");
        }
    }
}
