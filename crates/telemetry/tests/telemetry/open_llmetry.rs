use runtrail_telemetry::Role;
use serde_json::json;

use crate::fixture::*;

#[test]
fn workflows_and_agents_are_runs() {
    for kind in ["workflow", "agent"] {
        let record = read(span(
            "joke.workflow",
            json!({
                "traceloop.span.kind": kind,
                "traceloop.entity.name": "joke",
                "traceloop.entity.input": r#"{"args":[],"kwargs":{"topic":"sea"}}"#,
                "traceloop.entity.output": r#""Two tides meet.""#,
                "traceloop.association.properties.user_id": "alice",
                "traceloop.association.properties.session_id": "s-1",
            }),
        ));
        assert_eq!(
            (record.role, record.run.skill.as_str()),
            (Role::Run, "joke")
        );
        assert_eq!(
            (record.run.caller.as_str(), record.run.channel.as_str()),
            ("alice", "s-1")
        );
        assert_eq!(
            record.run.inputs,
            object(json!({"args": [], "kwargs": {"topic": "sea"}}))
        );
        assert_eq!(record.run.output, r#""Two tides meet.""#);
    }
}

#[test]
fn a_model_call_is_recognised_by_its_request_type() {
    let record = read(span(
        "openai.chat",
        json!({
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o",
            "gen_ai.usage.prompt_tokens": 15,
            "gen_ai.usage.completion_tokens": 22,
            "gen_ai.usage.cache_read_input_tokens": 5,
            "llm.usage.total_tokens": 37,
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "Why?",
            "gen_ai.completion.0.finish_reason": "stop",
        }),
    ));
    assert_eq!(record.role, Role::ModelCall);
    assert_eq!(tokens(&record), [Some(15), Some(5), None, Some(22), None]);
    assert_eq!(
        event(&record).messages,
        [json!({"role": "user", "content": "Why?"})]
    );
    assert_eq!(
        event(&record).payload["output"],
        json!([{"finish_reason": "stop"}])
    );
}

#[test]
fn tools_are_calls_and_tasks_are_steps() {
    let tool = json!({
        "traceloop.span.kind": "tool",
        "traceloop.entity.name": "search",
        "traceloop.entity.input": r#"{"query":"tides"}"#,
        "traceloop.entity.output": "42",
    });
    let record = read(span("search.tool", tool));
    assert_eq!(record.role, Role::ToolCall);
    let payload = &event(&record).payload;
    assert_eq!(
        (&payload["tool"], &payload["arguments"], &payload["result"]),
        (&json!("search"), &json!({"query": "tides"}), &json!(42))
    );
    let task = read(span("prompt.task", json!({"traceloop.span.kind": "task"})));
    assert_eq!((task.role, task.is_agentic), (Role::Span, true));
}
