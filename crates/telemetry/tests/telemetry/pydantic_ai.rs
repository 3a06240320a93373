use runtrail_telemetry::Role;
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
