use runtrail_telemetry::{Policy, Role, read_span};
use serde_json::json;

use crate::fixture::*;

#[test]
fn a_run_has_the_aggregated_usage_and_the_final_result() {
    let mut run = span(
        "invoke_agent agent",
        json!({
            "model_name": "test",
            "agent_name": "agent",
            "gen_ai.agent.name": "agent",
            "gen_ai.operation.name": "invoke_agent",
            "final_result": r#"{"noop":"ok"}"#,
            "gen_ai.aggregated_usage.input_tokens": 103,
            "gen_ai.aggregated_usage.output_tokens": 12,
            "pydantic_ai.all_messages":
                r#"[{"role":"user","parts":[{"type":"text","content":"hello"}]}]"#,
            "logfire.msg": "agent run",
        }),
    );
    run.source = source("app", "pydantic-ai");
    let record = read(run);
    assert_eq!(
        (record.role, record.run.skill.as_str()),
        (Role::Run, "agent")
    );
    assert_eq!(tokens(&record), [Some(103), None, None, Some(12), None]);
    assert_eq!(record.run.output, r#"{"noop":"ok"}"#);
    assert_eq!(record.run.inputs["messages"][0]["role"], "user");
}

#[test]
fn a_model_call_has_a_cost() {
    let mut call = span(
        "chat gpt-4o",
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 52,
            "gen_ai.usage.output_tokens": 6,
            "gen_ai.usage.details.reasoning_tokens": 4,
            "operation.cost": 0.0042,
            "model_request_parameters": r#"{"function_tools":[]}"#,
            "events": r#"[{"event.name":"gen_ai.user.message","content":"hello"}]"#,
        }),
    );
    call.source = source("app", "pydantic-ai");
    let record = read(call);
    assert_eq!(usage(&record).cost_micros, Some(4_200));
    assert_eq!(tokens(&record), [Some(52), None, None, Some(6), Some(4)]);
    assert_eq!(
        event(&record).payload["request"],
        json!({"function_tools": []})
    );
    assert_eq!(
        event(&record).messages,
        [json!({"event.name": "gen_ai.user.message", "content": "hello"})]
    );
}

#[test]
fn older_tool_calls_have_short_names() {
    let mut call = span(
        "running tool",
        json!({
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "add_numbers",
            "tool_arguments": r#"{"x":1}"#,
            "tool_response": "3",
        }),
    );
    call.source = source("app", "pydantic-ai");
    let payload = event(&read(call)).payload.clone();
    assert_eq!(
        (&payload["arguments"], &payload["result"]),
        (&json!({"x": 1}), &json!(3))
    );
}

#[test]
fn the_inputs_of_a_run_end_before_its_first_answer() {
    let inputs = |start: serde_json::Value| {
        let mut run = span(
            "invoke_agent agent",
            json!({
                "gen_ai.operation.name": "invoke_agent",
                "pydantic_ai.all_messages": json!([
                    {"role": "user", "parts": [1]},
                    {"role": "assistant", "parts": [2]},
                    {"role": "user", "parts": [3]},
                    {"role": "assistant", "parts": [4]},
                    {"role": "user", "parts": [5]},
                ])
                .to_string(),
                "pydantic_ai.new_message_index": start,
            }),
        );
        run.source = source("app", "pydantic-ai");
        let messages = read(run).run.inputs["messages"].clone();
        messages.as_array().map_or(0, Vec::len)
    };
    assert_eq!(inputs(json!(null)), 1);
    // The first two messages belong to an earlier run.
    assert_eq!(inputs(json!(2)), 3);
    assert_eq!(inputs(json!(9)), 5);
}

#[test]
fn the_parameters_of_a_request_are_content() {
    let mut call = span(
        "chat large",
        json!({
            "gen_ai.operation.name": "chat",
            "model_request_parameters":
                r#"{"instruction_parts":[{"content":"You plan trips."}]}"#,
        }),
    );
    call.source = source("app", "pydantic-ai");
    let policy = Policy::new().without_content();
    let payload = event(&read_span(call, &policy)).payload.clone();
    assert_eq!(payload.get("request"), None);
    assert_eq!(payload.get("attributes"), None);
}
