use runtrail_telemetry::Role;
use serde_json::json;

use crate::fixture::*;

#[test]
fn spans_are_recognised_by_their_names() {
    let roles = [
        ("reply", Role::Run),
        ("stream_response_from_provider", Role::ModelCall),
        ("dispatch_tool_call", Role::ToolCall),
        ("other", Role::Span),
    ];
    for (name, role) in roles {
        let mut span = span(
            name,
            json!({
                "session.id": "20260211_65",
                "input": r#"{"name":"get-env"}"#,
                "output": "hello",
                "gen_ai.usage.input_tokens": 5,
            }),
        );
        span.source = source("goose", "");
        let record = read(span.clone());
        assert_eq!(record.role, role, "{name}");
        assert_eq!(record.run.channel, "20260211_65");
        // Any program may have a span `reply`.
        span.source = source("mailer", "");
        assert_eq!(read(span).role, Role::Span, "{name}");
    }
    let mut reply = span("reply", json!({"input": "hi", "output": "hello"}));
    reply.source = source("goose", "");
    let record = read(reply);
    assert_eq!(
        (record.run.skill.as_str(), record.run.output.as_str()),
        ("goose", "hello")
    );
    assert_eq!(record.run.inputs, object(json!({"prompt": "hi"})));
}
