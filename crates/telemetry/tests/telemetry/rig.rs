use runtrail_telemetry::Role;
use serde_json::json;

use crate::fixture::*;

#[test]
fn spans_of_rig_have_names_of_its_own() {
    let record = read(span(
        "chat",
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.agent.name": "researcher",
            "rig.completion_parent": true,
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.tool_use_prompt_tokens": 7,
            "gen_ai.usage.reasoning_tokens": 5,
        }),
    ));
    assert_eq!(
        (record.role, record.run.skill.as_str()),
        (Role::ModelCall, "researcher")
    );
    assert_eq!(
        tokens(&record),
        [Some(100), Some(60), None, Some(20), Some(5)]
    );
    let attributes = &event(&record).payload["attributes"];
    assert_eq!(attributes["gen_ai.usage.tool_use_prompt_tokens"], 7);

    let record = read(span(
        "invoke_agent",
        json!({
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "researcher",
            "gen_ai.prompt": "why?",
            "gen_ai.completion": "because",
        }),
    ));
    assert_eq!(record.run.inputs, object(json!({"prompt": "why?"})));
    assert_eq!(record.run.output, "because");

    let record = read(span(
        "execute_tool",
        json!({
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "fetch",
            "gen_ai.tool.call.outcome": "error",
            "gen_ai.tool.error.type": "timeout",
        }),
    ));
    assert_eq!(event(&record).payload["error"], "timeout");
}
