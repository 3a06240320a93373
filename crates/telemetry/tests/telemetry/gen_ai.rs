use runtrail_telemetry::{Role, SpanStatus};
use serde_json::json;

use crate::fixture::*;

#[test]
fn a_model_call_has_its_usage_request_and_texts() {
    let record = read(span(
        "chat gpt-5",
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.response.model": "gpt-5-2026-01-01",
            "gen_ai.request.max_tokens": 100,
            "gen_ai.request.temperature": 0.7,
            "gen_ai.response.id": "resp_1",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.cache_read.input_tokens": 80,
            "gen_ai.usage.cache_creation.input_tokens": 10,
            "gen_ai.usage.output_tokens": 30,
            "gen_ai.usage.reasoning.output_tokens": 12,
            "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
            "gen_ai.input.messages":
                r#"[{"role":"user","parts":[{"type":"text","content":"Why?"}]}]"#,
            "gen_ai.output.messages": [{"role": "assistant", "parts": []}],
            "server.address": "api.openai.com",
            "gen_ai.conversation.id": "conv-1",
        }),
    ));
    assert_eq!((record.role, record.is_agentic), (Role::ModelCall, true));
    assert_eq!(
        (record.group.as_str(), record.run.channel.as_str()),
        (TRACE, "conv-1")
    );
    assert_eq!(
        tokens(&record),
        [Some(120), Some(80), Some(10), Some(30), Some(12)]
    );
    let used = usage(&record);
    assert_eq!(used.provider.as_deref(), Some("openai"));
    assert_eq!(used.model.as_deref(), Some("gpt-5-2026-01-01"));
    let event = event(&record);
    assert_eq!(
        (event.event_type.as_str(), event.call_id.as_str()),
        ("model_call", "resp_1")
    );
    assert_eq!(
        event.messages,
        [json!({"role": "user", "parts": [{"type": "text", "content": "Why?"}]})]
    );
    assert_eq!(
        event.payload,
        object(json!({
            "response_id": "resp_1",
            "finish_reasons": ["stop"],
            "request": {"model": "gpt-5", "max_tokens": 100, "temperature": 0.7},
            "system": [{"type": "text", "content": "Be brief."}],
            "output": [{"role": "assistant", "parts": []}],
            "attributes": {
                "server.address": "api.openai.com",
                "gen_ai.conversation.id": "conv-1",
            },
        }))
    );
}

#[test]
fn older_names_are_read() {
    let record = read(span(
        "chat",
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "anthropic",
            "gen_ai.usage.prompt_tokens": 10,
            "gen_ai.usage.completion_tokens": 5,
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "Why?",
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "Be brief.",
            "gen_ai.completion.0.content": "Because.",
            "gen_ai.completion.0.tool_calls.0.name": "search",
        }),
    ));
    assert_eq!(tokens(&record), [Some(10), None, None, Some(5), None]);
    assert_eq!(usage(&record).provider.as_deref(), Some("anthropic"));
    let event = event(&record);
    assert_eq!(
        event.messages,
        [
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "content": "Why?"}),
        ]
    );
    assert_eq!(
        event.payload["output"],
        json!([{"content": "Because.", "tool_calls": [{"name": "search"}]}])
    );
}

#[test]
fn messages_may_be_events_of_the_span() {
    let mut call = span("chat", json!({"gen_ai.operation.name": "chat"}));
    call.events = vec![
        span_event("gen_ai.system.message", json!({"content": "Be brief."})),
        span_event(
            "gen_ai.user.message",
            json!({"content": "Why?", "gen_ai.system": "openai"}),
        ),
        span_event(
            "gen_ai.choice",
            json!({"index": 0, "finish_reason": "stop", "message": r#"{"content":"So."}"#}),
        ),
    ];
    let record = read(call);
    let event = event(&record);
    assert_eq!(
        event.messages,
        [
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "content": "Why?"}),
        ]
    );
    assert_eq!(
        event.payload["output"],
        json!([{
            "role": "assistant",
            "index": 0,
            "finish_reason": "stop",
            "message": {"content": "So."},
        }])
    );
}

#[test]
fn texts_may_be_in_an_event_of_the_span() {
    let mut call = span("chat", json!({"gen_ai.operation.name": "chat"}));
    call.events = vec![span_event(
        "gen_ai.client.inference.operation.details",
        json!({"gen_ai.input.messages": [{"role": "user"}]}),
    )];
    assert_eq!(event(&read(call)).messages, [json!({"role": "user"})]);
}

#[test]
fn a_tool_call_has_arguments_and_a_result() {
    let mut call = span(
        "execute_tool search",
        json!({
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.id": "call_1",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.arguments": {"query": "tides"},
            "gen_ai.tool.call.result": "12345678901234567890123",
            "error.type": "timeout",
        }),
    );
    call.status = SpanStatus::Error("took too long".to_owned());
    let record = read(call);
    assert_eq!(record.role, Role::ToolCall);
    assert_eq!(record.usage, None);
    let event = event(&record);
    assert_eq!(
        (event.event_type.as_str(), event.call_id.as_str()),
        ("tool_call", "call_1")
    );
    assert_eq!(
        event.payload,
        object(json!({
            "tool": "search",
            "call_id": "call_1",
            "arguments": {"query": "tides"},
            // As a number it would lose digits.
            "result": "12345678901234567890123",
            "error": "took too long",
            "attributes": {"gen_ai.tool.type": "function", "error.type": "timeout"},
        }))
    );
    // If it turns out to contain an agent.
    assert_eq!(record.run.skill, "search");
    assert_eq!(record.run.inputs, object(json!({"query": "tides"})));
}

/// As Microsoft's Agent Framework sends it.
#[test]
fn an_agent_becomes_a_run_with_texts_and_a_total() {
    let record = read(span(
        "invoke_agent researcher",
        json!({
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "researcher",
            "gen_ai.agent.id": "asst_1",
            "gen_ai.conversation.id": "thread-1",
            "user.id": "alice",
            "gen_ai.usage.input_tokens": 999,
            "gen_ai.input.messages":
                r#"[{"role":"user","parts":[{"type":"text","content":"Why?"}]}]"#,
            "gen_ai.output.messages":
                r#"[{"role":"assistant","parts":[{"type":"text","content":"So."}]}]"#,
        }),
    ));
    assert_eq!((record.role, &record.event), (Role::Run, &None));
    let run = &record.run;
    assert_eq!(
        (
            run.skill.as_str(),
            run.caller.as_str(),
            run.channel.as_str()
        ),
        ("researcher", "alice", "thread-1")
    );
    assert_eq!(
        run.inputs,
        object(json!({
            "messages": [{"role": "user", "parts": [{"type": "text", "content": "Why?"}]}],
        }))
    );
    assert_eq!((run.output.as_str(), &run.error), ("So.", &None));
    assert_eq!(tokens(&record)[0], Some(999));
}

#[test]
fn other_operations_are_steps_without_usage() {
    for operation in ["retrieval", "plan", "agent_step", "unknown"] {
        let record = read(span(
            operation,
            json!({"gen_ai.operation.name": operation, "gen_ai.usage.input_tokens": 5}),
        ));
        assert_eq!(
            (record.role, record.is_agentic),
            (Role::Span, true),
            "{operation}"
        );
        assert_eq!(record.usage, None, "{operation}");
        assert_eq!(event(&record).payload["name"], operation);
    }
    let record = read(span("GET /", json!({"http.request.method": "GET"})));
    assert_eq!((record.role, record.is_agentic), (Role::Span, false));
}

#[test]
fn tokens_that_the_sender_has_not_included_are_added() {
    let record = read(span(
        "chat",
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 2,
            "gen_ai.usage.cache_read.input_tokens": 80_000,
            "gen_ai.usage.output_tokens": 10,
            "gen_ai.usage.reasoning.output_tokens": 50,
        }),
    ));
    assert_eq!(
        tokens(&record),
        [Some(80_002), Some(80_000), None, Some(60), Some(50)]
    );
}

#[test]
fn contradictory_numbers_are_dropped_and_stay_attributes() {
    let record = read(span(
        "chat",
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.usage.input_tokens": i64::MAX,
            "gen_ai.usage.cache_read.input_tokens": i64::MAX,
            "gen_ai.usage.cache_write.input_tokens": i64::MAX,
            "gen_ai.usage.output_tokens": -1,
        }),
    ));
    assert_eq!(tokens(&record), [None; 5]);
    assert_eq!(usage(&record).model.as_deref(), Some("gpt-5"));
    let attributes = &event(&record).payload["attributes"];
    assert_eq!(attributes["gen_ai.usage.input_tokens"], i64::MAX);
}

#[test]
fn texts_in_a_log_belong_to_the_call_of_its_span() {
    let details = log(
        "gen_ai.client.inference.operation.details",
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.response.id": "resp_1",
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.input.messages": [{"role": "user"}],
            "gen_ai.conversation.id": "conv-1",
        }),
    );
    let record = read_kept_log(in_trace(details.clone()));
    assert_eq!((record.role, &record.usage), (Role::Log, &None));
    assert_eq!(event(&record).event_type, "log");
    assert_eq!(event(&record).call_id, "resp_1");
    assert_eq!(event(&record).messages, [json!({"role": "user"})]);

    let record = read_kept_log(details);
    assert_eq!(record.group, "gen_ai-conv-1");
    assert_eq!(event(&record).event_type, "model_call");
    assert_eq!(tokens(&record)[0], Some(7));
}

/// Microsoft's Agent Framework logs messages, too.
#[test]
fn a_log_of_a_message_becomes_a_log() {
    let mut message = log("gen_ai.user.message", json!({"source": "test"}));
    message.body = json!({"content": "Why?"});
    let record = read_kept_log(in_trace(message));
    assert_eq!((record.group.as_str(), record.is_agentic), (TRACE, true));
    assert_eq!(record.parent_id.as_deref(), Some("b7ad6b7169203331"));
    assert_eq!(
        event(&record).payload,
        object(json!({
            "name": "gen_ai.user.message",
            "severity": "INFO",
            "body": {"content": "Why?"},
            "attributes": {"source": "test"},
        }))
    );
}
