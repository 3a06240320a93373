use runtrail_telemetry::{Policy, Record, read_log, read_span};
use serde_json::{Value, json};

use crate::fixture::*;

/// Texts wherever a sender may put them.
fn records(policy: &Policy) -> Vec<Record> {
    let texts = json!({
        "gen_ai.prompt": "SECRET 1",
        "gen_ai.prompt.0.content": "SECRET 2",
        "gen_ai.completion.0.content": "SECRET 3",
        "gen_ai.input.messages": r#"[{"role":"user","content":"SECRET 4"}]"#,
        "gen_ai.output.messages": [{"content": "SECRET 5"}],
        "gen_ai.system_instructions": "SECRET 6",
        "gen_ai.tool.call.arguments": {"a": "SECRET 7"},
        "gen_ai.tool.call.result": "SECRET 8",
        "gen_ai.tool.definitions": "SECRET 9",
        "input.value": "SECRET 10",
        "output.value": "SECRET 11",
        "llm.input_messages.0.message.content": "SECRET 12",
        "traceloop.entity.input": "SECRET 13",
        "ai.prompt.messages": "SECRET 14",
        "ai.response.toolCalls": "SECRET 15",
        "mlflow.spanOutputs": "SECRET 16",
        "gcp.vertex.agent.llm_request": "SECRET 17",
        "pydantic_ai.all_messages": "SECRET 18",
        "final_result": "SECRET 19",
        "app.version": "1.2",
    });
    let mut spans = Vec::new();
    for operation in ["chat", "execute_tool", "invoke_agent", "plan"] {
        let mut span = span(operation, texts.clone());
        span.attributes
            .insert("gen_ai.operation.name".to_owned(), operation.into());
        span.parent_id = None;
        span.events = vec![
            span_event("gen_ai.user.message", json!({"content": "SECRET 20"})),
            span_event("gen_ai.choice", json!({"message": "SECRET 21"})),
            span_event("x", json!({"gen_ai.input.messages": "SECRET 22"})),
        ];
        spans.push(read_span(span, policy));
    }
    let mut tool = span("claude_code.tool", json!({"tool_input": "SECRET 23"}));
    tool.events = vec![span_event("tool.output", json!({"output": "SECRET 24"}))];
    spans.push(read_span(tool, policy));

    let mut prompt = log("codex.user_prompt", json!({"prompt": "SECRET 25"}));
    prompt.body = json!("SECRET 26");
    let result = log(
        "codex.tool_result",
        json!({"output": "SECRET 27", "arguments": "SECRET 28"}),
    );
    let logs = [prompt, result]
        .into_iter()
        .filter_map(|log| read_log(log, policy));
    spans.extend(logs);
    spans
}

#[test]
fn content_can_be_left_out() {
    let everything = format!("{:?}", records(&Policy::new()));
    assert!(everything.contains("SECRET 4"), "{everything}");
    let records = records(&Policy::new().without_content());
    let everything = format!("{records:?}");
    assert!(!everything.contains("SECRET"), "{everything}");
    assert!(everything.contains("app.version"), "{everything}");
    assert_eq!(records.len(), 7);
}

#[test]
fn secrets_are_redacted_wherever_they_are() {
    const KEY: &str = "sk-ant-api03-abcdefghijklmnop1";

    let attributes = json!({
        "gen_ai.operation.name": "chat",
        "user.id": KEY,
        "gen_ai.response.model": KEY,
        "gen_ai.response.id": KEY,
        "gen_ai.system_instructions": KEY,
        "gen_ai.input.messages": [{"content": [{"text": format!("use {KEY}, please")}]}],
        "gen_ai.output.messages": format!(r#"[{{"arguments":"{{\"key\":\"{KEY}\"}}"}}]"#),
        "http.request.header.authorization": "hunter2",
        "error.type": KEY,
    });
    for operation in ["chat", "execute_tool", "invoke_agent", "plan"] {
        let mut span = span(KEY, attributes.clone());
        span.attributes
            .insert("gen_ai.operation.name".to_owned(), operation.into());
        span.parent_id = None;
        let text = format!("{:?}", read_span(span.clone(), &Policy::new()));
        assert!(
            !text.contains("abcdefghijklmnop") && !text.contains("hunter2"),
            "{text}"
        );
        let text = format!("{:?}", read_span(span, &Policy::new().with_secrets()));
        assert!(text.contains(KEY), "{text}");
    }
}

#[test]
fn a_function_sees_everything_that_is_kept() {
    fn replace(value: &mut Value) {
        match value {
            Value::String(text) => *text = text.replace("Jane", "[name]"),
            Value::Array(items) => items.iter_mut().for_each(replace),
            Value::Object(members) => members.values_mut().for_each(replace),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    let policy = Policy::new().redact(replace);
    let attributes = json!({
        "gen_ai.agent.name": "Jane's agent",
        "user.id": "Jane",
        "gen_ai.input.messages": r#"[{"content":"Jane asks"}]"#,
        "gen_ai.output.messages": "for Jane",
        "error.type": "Jane",
        "note": "Jane",
    });
    for operation in ["chat", "execute_tool", "invoke_agent", "plan"] {
        let mut span = span("Jane", attributes.clone());
        span.attributes
            .insert("gen_ai.operation.name".to_owned(), operation.into());
        let text = format!("{:?}", read_span(span, &policy));
        assert!(!text.contains("Jane") && text.contains("[name]"), "{text}");
    }
}

#[test]
fn images_become_their_length() {
    let image = "A".repeat(100_000);
    let record = read(span(
        "chat",
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages":
                [{"role": "user", "parts": [{"type": "blob", "content": image}]}],
        }),
    ));
    let part = &event(&record).messages[0]["parts"][0];
    assert_eq!(
        (&part["type"], &part["bytes"]),
        (&json!("blob"), &json!(75_000))
    );
}

#[test]
fn a_large_message_becomes_its_length() {
    let parts = vec![json!({"type": "text", "content": "word ".repeat(20)}); 30];
    let policy = Policy::new().max_payload_bytes(1_000);
    let record = read_span(
        span(
            "chat",
            json!({
                "gen_ai.operation.name": "chat",
                "gen_ai.input.messages": [{"role": "user", "parts": parts}, {"role": "user"}],
            }),
        ),
        &policy,
    );
    let messages = &event(&record).messages;
    assert_eq!(messages[1], json!({"role": "user"}));
    assert_eq!(
        (&messages[0]["role"], messages[0].get("parts")),
        (&json!("user"), None)
    );
    assert!(messages[0]["bytes"].as_u64() > Some(3_000), "{messages:?}");
}

#[test]
fn a_run_has_a_skill_even_if_a_function_drops_its_name() {
    let policy = Policy::new().redact(|value| *value = Value::Null);
    let record = read_span(span("plan", json!({"a": 1})), &policy);
    assert_eq!(record.run.skill, "unnamed");
    assert!(event(&record).payload.is_empty());
}

#[test]
fn long_texts_are_cut_with_their_length_and_digest() {
    let policy = Policy::new().max_text_bytes(10);
    let record = read_span(
        span(
            "execute_tool",
            json!({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.result": "ab ".repeat(9)}),
        ),
        &policy,
    );
    let result = event(&record).payload["result"]
        .as_str()
        .unwrap_or_default();
    assert!(
        result.starts_with("ab ab ab a… (27 bytes, sha256 "),
        "{result}"
    );
}
