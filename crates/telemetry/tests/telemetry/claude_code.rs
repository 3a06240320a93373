use std::time::Duration;

use chrono::DateTime;
use runtrail_telemetry::{LogRecord, Policy, Role, read_log};
use serde_json::{Value, json};

use crate::fixture::*;

#[test]
fn input_tokens_are_added_to_cached_ones() {
    let record = read(span(
        "claude_code.llm_request",
        json!({
            "session.id": "s-1",
            "span.type": "llm_request",
            "model": "claude-opus-5",
            "gen_ai.system": "anthropic",
            "gen_ai.request.model": "claude-opus-5",
            "input_tokens": 2,
            "output_tokens": 1200,
            "cache_read_tokens": 84_562,
            "cache_creation_tokens": 7_096,
            "request_id": "req_1",
            "success": true,
            "stop_reason": "tool_use",
        }),
    ));
    assert_eq!(
        (record.role, record.run.channel.as_str()),
        (Role::ModelCall, "s-1")
    );
    assert_eq!(
        tokens(&record),
        [Some(91_660), Some(84_562), Some(7_096), Some(1_200), None]
    );
    let used = usage(&record);
    assert_eq!(
        (
            used.provider.as_deref(),
            used.model.as_deref(),
            used.cost_micros
        ),
        (Some("anthropic"), Some("claude-opus-5"), None)
    );
    let payload = &event(&record).payload;
    assert_eq!(
        (&payload["response_id"], payload.get("error")),
        (&json!("req_1"), None)
    );
    assert_eq!(payload["finish_reasons"], "tool_use");
}

/// More fresh than cached tokens: the numbers alone don't show that they must be added.
#[test]
fn few_cached_tokens_are_added_too() {
    let record = read(span(
        "claude_code.llm_request",
        json!({"input_tokens": 100, "cache_read_tokens": 10}),
    ));
    assert_eq!(tokens(&record)[..2], [Some(110), Some(10)]);
}

#[test]
fn interactions_are_runs_and_tools_are_calls() {
    let record = read(span(
        "claude_code.interaction",
        json!({"session.id": "s-1", "user.email": "a@example.org", "user_prompt": "Why?"}),
    ));
    assert_eq!(
        (record.role, record.run.skill.as_str()),
        (Role::Run, "claude-code")
    );
    assert_eq!(record.run.caller, "a@example.org");
    assert_eq!(record.run.inputs, object(json!({"prompt": "Why?"})));

    let mut tool = span(
        "claude_code.tool",
        json!({
            "tool_name": "Bash",
            "tool_use_id": "toolu_1",
            "gen_ai.tool.call.id": "toolu_1",
            "full_command": "ls",
            "duration_ms": 1831,
        }),
    );
    tool.events = vec![span_event("tool.output", json!({"output": "a.txt"}))];
    let record = read(tool);
    assert_eq!(record.role, Role::ToolCall);
    assert_eq!(
        event(&record).payload,
        object(json!({
            "tool": "Bash",
            "call_id": "toolu_1",
            "result": "a.txt",
            "attributes": {"full_command": "ls", "duration_ms": 1831},
        }))
    );
    for step in [
        "claude_code.tool.execution",
        "claude_code.tool.blocked_on_user",
    ] {
        let record = read(span(step, json!({"success": true})));
        assert_eq!(
            (record.role, record.is_agentic),
            (Role::Span, true),
            "{step}"
        );
    }
    let failed = read(span(
        "claude_code.tool.execution",
        json!({"success": false, "error": "exit code 1"}),
    ));
    assert_eq!(failed.run.error.as_deref(), Some("exit code 1"));
}

fn api_request() -> LogRecord {
    log(
        "",
        json!({
            "event.name": "api_request",
            "session.id": "s-1",
            "prompt.id": "p-1",
            "user.email": "a@example.org",
            "model": "claude-opus-5",
            "input_tokens": "120",
            "output_tokens": "30",
            "cache_read_tokens": "1000",
            "cache_creation_tokens": "0",
            "cost_usd": "0.0875",
            "duration_ms": "2000",
            "request_id": "req_1",
        }),
    )
}

#[test]
fn a_log_outside_all_traces_has_tokens_and_cost() {
    let record = read_kept_log(api_request());
    assert_eq!(
        (record.role, record.group.as_str()),
        (Role::Log, "claude_code-p-1")
    );
    assert_eq!((record.parent_id.as_ref(), record.is_agentic), (None, true));
    let run = &record.run;
    assert_eq!(
        (
            run.skill.as_str(),
            run.caller.as_str(),
            run.channel.as_str()
        ),
        ("claude-code", "a@example.org", "s-1")
    );
    assert_eq!(event(&record).event_type, "model_call");
    assert_eq!(
        tokens(&record),
        [Some(1_120), Some(1_000), Some(0), Some(30), None]
    );
    assert_eq!(usage(&record).cost_micros, Some(87_500));
    // The log is written when the call ends.
    assert_eq!(record.duration, Some(Duration::from_secs(2)));
    assert_eq!(record.at, DateTime::UNIX_EPOCH + Duration::from_secs(8));
}

#[test]
fn a_log_in_a_trace_adds_only_the_cost() {
    let record = read_kept_log(in_trace(api_request()));
    assert_eq!((record.group.as_str(), record.duration), (TRACE, None));
    assert_eq!(event(&record).event_type, "log");
    assert_eq!(
        (event(&record).call_id.as_str(), tokens(&record)),
        ("req_1", [None; 5])
    );
    let used = usage(&record);
    assert_eq!(
        (used.model.as_deref(), used.cost_micros),
        (Some("claude-opus-5"), Some(87_500))
    );

    let tool = log(
        "claude_code.tool_result",
        json!({"tool_name": "Bash", "tool_use_id": "toolu_1", "session.id": "s-1"}),
    );
    let record = read_kept_log(in_trace(tool));
    assert_eq!(event(&record).event_type, "log");
    assert_eq!(event(&record).call_id, "toolu_1");
}

#[test]
fn the_name_may_be_anywhere_with_or_without_a_prefix() {
    let attributes = |name: Option<&str>| match name {
        Some(key) => json!({"session.id": "s-1", key: "claude_code.api_request"}),
        None => json!({"session.id": "s-1"}),
    };
    let from_service = |mut log: LogRecord| {
        log.source = source("claude-code", "com.anthropic.claude_code.events");
        log
    };
    let mut in_body = log("", attributes(None));
    in_body.body = json!("claude_code.api_request");
    for log in [
        in_body,
        log("claude_code.api_request", attributes(None)),
        from_service(log("api_request", attributes(None))),
        log("", attributes(Some("event.name"))),
        log("", attributes(Some("eventName"))),
    ] {
        let record = read_kept_log(log);
        assert_eq!(event(&record).event_type, "model_call");
        assert_eq!(record.group, "claude_code-s-1");
        assert_eq!(event(&record).payload.get("body"), None);
    }
    // One without a rule, as most are.
    let record = read_kept_log(from_service(log("hook_registered", attributes(None))));
    assert_eq!(
        (event(&record).event_type.as_str(), record.is_agentic),
        ("log", true)
    );
    // Only a name makes it Claude Code's.
    assert_eq!(
        read_log(log("api_request", json!({})), &Policy::new()),
        None
    );
}

#[test]
fn prompts_and_answers_describe_the_run() {
    let prompt = json!({"prompt.id": "p-1", "prompt": "Why?", "prompt_length": "4"});
    let record = read_kept_log(log("claude_code.user_prompt", prompt));
    assert_eq!(record.run.inputs, object(json!({"prompt": "Why?"})));
    assert_eq!(event(&record).event_type, "log");
    assert_eq!(event(&record).payload["name"], "claude_code.user_prompt");
    assert_eq!(event(&record).payload["attributes"]["prompt"], "Why?");

    let answer = json!({"prompt.id": "p-1", "response": "So."});
    let record = read_kept_log(log("claude_code.assistant_response", answer));
    assert_eq!(record.run.output, "So.");
}

#[test]
fn failures_are_errors_of_their_events() {
    let error = json!({"prompt.id": "p-1", "model": "claude", "error": "overloaded"});
    let record = read_kept_log(log("claude_code.api_error", error));
    assert_eq!(event(&record).payload["error"], "overloaded");
    // The request may have been repeated.
    assert_eq!(record.run.error, None);

    let result = |success: &str| {
        let attributes = json!({
            "prompt.id": "p-1",
            "tool_name": "Bash",
            "success": success,
            "tool_parameters": r#"{"bash_command":"ls"}"#,
        });
        let record = read_kept_log(log("claude_code.tool_result", attributes));
        event(&record).payload.clone()
    };
    assert_eq!(result("true").get("error"), None);
    assert_eq!(result("false").get("error"), Some(&Value::from("failed")));
    assert_eq!(result("true")["arguments"], json!({"bash_command": "ls"}));
}
