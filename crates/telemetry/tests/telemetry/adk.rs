use runtrail_telemetry::Role;
use serde_json::json;

use crate::fixture::*;

#[test]
fn requests_and_answers_are_json() {
    let record = read(span(
        "call_llm",
        json!({
            "gen_ai.system": "gcp.vertex.agent",
            "gen_ai.request.model": "gemini-3",
            "gcp.vertex.agent.session_id": "s-1",
            "gcp.vertex.agent.llm_request":
                r#"{"model":"gemini-3","contents":[{"role":"user","parts":[{"text":"Why?"}]}]}"#,
            "gcp.vertex.agent.llm_response": r#"{"content":{"parts":[{"text":"So."}]}}"#,
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.output_tokens": 3,
        }),
    ));
    assert_eq!(
        (record.role, record.run.channel.as_str()),
        (Role::ModelCall, "s-1")
    );
    assert_eq!(tokens(&record), [Some(5), None, None, Some(3), None]);
    assert_eq!(
        event(&record).messages,
        [json!({"role": "user", "parts": [{"text": "Why?"}]})]
    );
    assert_eq!(
        event(&record).payload["output"],
        json!({"content": {"parts": [{"text": "So."}]}})
    );
}

#[test]
fn the_span_of_merged_tools_is_no_tool_call() {
    let attributes = json!({
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "lookup",
        "gcp.vertex.agent.tool_call_args": r#"{"query":"weather"}"#,
        "gcp.vertex.agent.tool_response": r#"{"result":"sunny"}"#,
    });
    let record = read(span("execute_tool lookup", attributes.clone()));
    assert_eq!(record.role, Role::ToolCall);
    let payload = &event(&record).payload;
    assert_eq!(payload["arguments"], json!({"query": "weather"}));
    assert_eq!(payload["result"], json!({"result": "sunny"}));
    let record = read(span("execute_tool (merged tools)", attributes));
    assert_eq!(record.role, Role::Span);
}
