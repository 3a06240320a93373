use runtrail_telemetry::Role;
use serde_json::json;

use crate::fixture::*;

#[test]
fn a_call_is_a_tool_call_for_the_client_and_a_run_for_a_server_alone() {
    let mut call = span(
        "tools/call get-weather",
        json!({
            "mcp.method.name": "tools/call",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "get-weather",
            "mcp.session.id": "s-1",
            "gen_ai.tool.call.arguments": r#"{"city":"Pune"}"#,
            "gen_ai.tool.call.result": "31",
        }),
    );
    let client = read(call.clone());
    assert_eq!(client.role, Role::ToolCall);
    assert_eq!(event(&client).payload["tool"], "get-weather");

    call.is_server = true;
    assert_eq!(read(call.clone()).role, Role::Span);

    call.parent_id = None;
    let server = read(call);
    assert_eq!(server.role, Role::Run);
    assert_eq!(
        (server.run.skill.as_str(), server.run.channel.as_str()),
        ("get-weather", "s-1")
    );
    assert_eq!(server.run.inputs, object(json!({"city": "Pune"})));
    assert_eq!(server.run.output, "31");

    let list = read(span("tools/list", json!({"mcp.method.name": "tools/list"})));
    assert_eq!((list.role, list.is_agentic), (Role::Span, true));
}
