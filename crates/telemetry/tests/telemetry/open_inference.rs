use runtrail_telemetry::{Role, SpanStatus};
use serde_json::json;

use crate::fixture::*;

#[test]
fn a_model_call_has_flattened_messages_and_a_cost() {
    let record = read(span(
        "ChatOpenAI",
        json!({
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4o",
            "llm.provider": "openai",
            "llm.invocation_parameters": r#"{"temperature":0.1}"#,
            "llm.token_count.prompt": 50,
            "llm.token_count.prompt_details.cache_read": 20,
            "llm.token_count.completion": 9,
            "llm.token_count.completion_details.reasoning": 4,
            "llm.token_count.total": 59,
            "llm.cost.total": 0.00125,
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "Be brief.",
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.contents.0.message_content.type": "text",
            "llm.input_messages.1.message.contents.0.message_content.text": "Why?",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "search",
            "input.value": r#"{"messages":[]}"#,
            "session.id": "s-1",
            "user.id": "alice",
        }),
    ));
    assert_eq!(record.role, Role::ModelCall);
    assert_eq!(
        (record.run.caller.as_str(), record.run.channel.as_str()),
        ("alice", "s-1")
    );
    assert_eq!(
        tokens(&record),
        [Some(50), Some(20), None, Some(9), Some(4)]
    );
    let used = usage(&record);
    assert_eq!(
        (used.model.as_deref(), used.cost_micros),
        (Some("gpt-4o"), Some(1_250))
    );
    let event = event(&record);
    assert_eq!(
        event.messages,
        [
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "contents": [{"type": "text", "text": "Why?"}]}),
        ]
    );
    assert_eq!(event.payload["request"], json!({"temperature": 0.1}));
    assert_eq!(
        event.payload["output"],
        json!([{"role": "assistant", "tool_calls": [{"function": {"name": "search"}}]}])
    );
    let attributes = &event.payload["attributes"];
    assert_eq!(attributes["llm.token_count.total"], 59);
    assert_eq!(attributes.get("llm.model_name"), None);
}

#[test]
fn hostile_indices_are_ignored() {
    let record = read(span(
        "LLM",
        json!({
            "openinference.span.kind": "LLM",
            "llm.input_messages.18446744073709551615.message.role": "huge",
            "llm.input_messages.99999999999999999999999.message.role": "larger",
            "llm.input_messages.-1.message.role": "negative",
            "llm.input_messages.4000.message.content": "kept",
            "llm.input_messages.4000.message.contents.4294967295.text": "huge",
            "llm.input_messages.message.role": "no index",
            "llm.input_messages.": "empty",
            format!("llm.input_messages.1{}", ".a".repeat(1_000)): "deep",
        }),
    ));
    assert_eq!(event(&record).messages, [json!({"content": "kept"})]);
}

#[test]
fn a_tool_call_has_its_input_and_output() {
    let mut call = span(
        "search",
        json!({
            "openinference.span.kind": "TOOL",
            "tool.name": "search",
            "input.value": r#"{"query":"tides"}"#,
            "input.mime_type": "application/json",
            "output.value": "high at noon",
        }),
    );
    call.status = SpanStatus::Error(String::new());
    call.events = vec![span_event(
        "exception",
        json!({"exception.type": "ValueError", "exception.message": "no such tide"}),
    )];
    let record = read(call);
    let payload = &event(&record).payload;
    assert_eq!(payload["arguments"], json!({"query": "tides"}));
    assert_eq!(
        (&payload["tool"], &payload["result"]),
        (&json!("search"), &json!("high at noon"))
    );
    assert_eq!(payload["error"], "ValueError: no such tide");
}

#[test]
fn agents_are_runs_and_chains_only_at_the_root() {
    let attributes = json!({
        "openinference.span.kind": "AGENT",
        "agent.name": "planner",
        "input.value": "Why?",
        "output.value": "So.",
    });
    let record = read(span("AgentExecutor", attributes));
    assert_eq!(
        (record.role, record.run.skill.as_str()),
        (Role::Run, "planner")
    );
    assert_eq!(record.run.inputs, object(json!({"prompt": "Why?"})));
    assert_eq!(record.run.output, "So.");

    let mut chain = span("LangGraph", json!({"openinference.span.kind": "CHAIN"}));
    assert_eq!(read(chain.clone()).role, Role::Span);
    chain.parent_id = None;
    let record = read(chain);
    assert_eq!(
        (record.role, record.run.skill.as_str()),
        (Role::Run, "LangGraph")
    );
}

const LANGCHAIN: &str = "openinference.instrumentation.langchain";

fn langchain(name: &str, kind: &str, metadata: serde_json::Value) -> runtrail_telemetry::Span {
    let mut span = span(
        name,
        json!({"openinference.span.kind": kind, "metadata": metadata.to_string()}),
    );
    span.source = source("app", LANGCHAIN);
    span
}

#[test]
fn the_metadata_of_langchain_shows_what_is_an_agent() {
    let clerk = json!({"lc_agent_name": "clerk", "langgraph_node": "tools"});
    let record = read(langchain("clerk", "CHAIN", clerk.clone()));
    assert_eq!(
        (record.role, record.run.skill.as_str()),
        (Role::Run, "clerk")
    );
    assert_eq!(
        read(langchain("tools", "CHAIN", clerk.clone())).role,
        Role::Span
    );
    assert_eq!(read(langchain("model", "CHAIN", clerk)).role, Role::Span);

    // Each of these names contains `agent`.
    let node = json!({"langgraph_node": "agent"});
    assert_eq!(
        read(langchain("agent", "AGENT", node.clone())).role,
        Role::Span
    );
    assert_eq!(
        read(langchain("my_agent", "AGENT", node.clone())).role,
        Role::Run
    );
    let mut tool = langchain("ask_agent", "AGENT", node);
    tool.attributes
        .insert("tool.name".into(), "ask_agent".into());
    let record = read(tool);
    assert_eq!(record.role, Role::ToolCall);
    assert_eq!(event(&record).payload["tool"], "ask_agent");
    // Other senders know what an agent is.
    let attributes = json!({
        "openinference.span.kind": "AGENT",
        "metadata": r#"{"langgraph_node":"agent"}"#,
    });
    assert_eq!(read(span("agent", attributes)).role, Role::Run);
}

#[test]
fn a_tool_message_of_langchain_is_its_content() {
    let result = |artifact| {
        let data = json!({"content": "7 bolts", "tool_call_id": "call-1", "artifact": artifact});
        let mut call = langchain("stock", "TOOL", json!({}));
        let message = json!({"type": "tool", "data": data}).to_string();
        call.attributes
            .insert("output.value".into(), message.into());
        event(&read(call)).payload.clone()
    };
    let payload = result(json!(null));
    assert_eq!(
        (&payload["call_id"], &payload["result"]),
        (&json!("call-1"), &json!("7 bolts"))
    );
    let payload = result(json!([7]));
    assert_eq!(payload["call_id"], "call-1");
    assert_eq!(payload["result"]["data"]["artifact"], json!([7]));
}

#[test]
fn the_output_of_a_graph_is_its_last_message() {
    let output = |state: serde_json::Value| {
        let mut graph = langchain("boss", "CHAIN", json!({"lc_agent_name": "boss"}));
        let output = state.to_string();
        graph
            .attributes
            .insert("output.value".into(), output.into());
        read(graph).run.output
    };
    let messages = json!([
        {"type": "human", "data": {"content": "How many?"}},
        {"type": "ai", "data": {"content": "7."}},
    ]);
    assert_eq!(output(json!({"messages": messages})), "7.");
    let state = json!({"count": 7, "messages": messages});
    assert_eq!(output(state.clone()), state.to_string());
}

#[test]
fn an_exception_is_the_error_rather_than_a_stack_trace() {
    let mut call = langchain("stock", "TOOL", json!({}));
    let trace = "ValueError('no')Traceback (most recent call last):\n\n  File \"a.py\"";
    call.status = SpanStatus::Error(trace.to_owned());
    let error = |call| event(&read(call)).payload["error"].clone();
    assert_eq!(error(call.clone()), trace);
    call.events = vec![span_event(
        "exception",
        json!({"exception.type": "ValueError", "exception.message": "no"}),
    )];
    assert_eq!(error(call), "ValueError: no");
}
