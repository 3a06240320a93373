use runtrail_telemetry::Role;
use serde_json::json;

use crate::fixture::*;

#[test]
fn texts_are_events_inside_the_spans() {
    let mut run = span("agent.query", json!({}));
    run.events = vec![span_event("event", json!({"langfuse.input": "Why?"}))];
    let record = read(run);
    assert_eq!((record.role, record.is_agentic), (Role::Run, true));
    assert_eq!(record.run.inputs, object(json!({"prompt": "Why?"})));

    let mut tool = span("tool.search", json!({}));
    tool.events = vec![span_event(
        "event",
        json!({"langfuse.input": r#"{"q":1}"#, "langfuse.output": "found"}),
    )];
    let record = read(tool);
    assert_eq!(record.role, Role::ToolCall);
    let payload = &event(&record).payload;
    assert_eq!(
        (&payload["tool"], &payload["arguments"], &payload["result"]),
        (&json!("search"), &json!({"q": 1}), &json!("found"))
    );
}

#[test]
fn a_generation_is_a_model_call_with_its_usage() {
    let record = read(span(
        "complete",
        json!({
            "langfuse.type": "GENERATION",
            "langfuse.model": "gpt-4o",
            "langfuse.usage": r#"{"prompt_tokens":12,"completion_tokens":3}"#,
        }),
    ));
    assert_eq!(record.role, Role::ModelCall);
    assert_eq!(tokens(&record), [Some(12), None, None, Some(3), None]);
    assert_eq!(usage(&record).model.as_deref(), Some("gpt-4o"));
}
