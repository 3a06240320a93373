use runtrail_telemetry::{LogRecord, Policy, Role, read_log};
use serde_json::{Value, json};

use crate::fixture::*;

fn codex_log(mut attributes: Value) -> LogRecord {
    let common = [
        ("conversation.id", "c-1"),
        ("user.email", "a@example.org"),
        ("user.account_id", "acct"),
        ("model", "gpt-5-codex"),
        ("slug", "gpt-5-codex"),
    ];
    for (name, value) in common {
        attributes[name] = value.into();
    }
    let mut log = log("", attributes);
    log.source = source("codex_cli_rs", "codex_otel.log_only");
    log
}

fn completed() -> LogRecord {
    codex_log(json!({
        "event.name": "codex.sse_event",
        "event.kind": "response.completed",
        "input_token_count": "32562",
        "output_token_count": "35",
        "cached_token_count": 1920,
        "reasoning_token_count": 7,
        "tool_token_count": "32597",
    }))
}

#[test]
fn turns_are_runs_with_a_total_and_responses_are_model_calls() {
    let mut turn = span(
        "session_task.turn",
        json!({
            "thread.id": "c-1",
            "turn.id": "t-1",
            "model": "gpt-5-codex",
            "codex.turn.token_usage.input_tokens": 32_562,
            "codex.turn.token_usage.cached_input_tokens": 1_920,
            "codex.turn.token_usage.non_cached_input_tokens": 30_642,
            "codex.turn.token_usage.output_tokens": 35,
            "codex.turn.token_usage.reasoning_output_tokens": 7,
        }),
    );
    turn.source = source("codex_exec", "");
    let record = read(turn);
    assert_eq!(
        (record.role, record.run.skill.as_str()),
        (Role::Run, "codex")
    );
    assert_eq!(record.run.channel, "c-1");
    assert_eq!(
        tokens(&record),
        [Some(32_562), Some(1_920), None, Some(35), Some(7)]
    );

    let mut call = span(
        "handle_responses",
        json!({
            "gen_ai.usage.input_tokens": 32_562,
            "gen_ai.usage.cache_read.input_tokens": 1_920,
            "gen_ai.usage.output_tokens": 35,
            "codex.usage.reasoning_output_tokens": 7,
            "codex.usage.total_tokens": 32_597,
        }),
    );
    call.source = source("codex_exec", "");
    let record = read(call);
    assert_eq!(record.role, Role::ModelCall);
    assert_eq!(
        tokens(&record),
        [Some(32_562), Some(1_920), None, Some(35), Some(7)]
    );
}

#[test]
fn a_trace_without_a_turn_is_not_about_agents() {
    let mut start = span("session_init", json!({"thread.id": "c-1"}));
    start.source = source("codex_cli_rs", "");
    assert!(!read(start).is_agentic);
}

#[test]
fn a_completed_response_counts_only_outside_traces() {
    let record = read_kept_log(completed());
    assert_eq!(
        (record.role, record.group.as_str()),
        (Role::Log, "codex-c-1")
    );
    assert_eq!(
        (
            record.run.skill.as_str(),
            record.run.caller.as_str(),
            record.run.channel.as_str()
        ),
        ("codex", "a@example.org", "c-1")
    );
    assert_eq!(event(&record).event_type, "model_call");
    assert_eq!(
        tokens(&record),
        [Some(32_562), Some(1_920), None, Some(35), Some(7)]
    );
    assert_eq!(usage(&record).model.as_deref(), Some("gpt-5-codex"));

    let record = read_kept_log(in_trace(completed()));
    assert_eq!(
        (event(&record).event_type.as_str(), &record.usage),
        ("log", &None)
    );
}

#[test]
fn chunks_of_a_stream_are_dropped_but_not_its_failure() {
    let chunk = |kind: &str| {
        let attributes = json!({
            "event.name": "codex.sse_event",
            "event.kind": kind,
            "error.message": "usage limit",
        });
        in_trace(codex_log(attributes))
    };
    let delta = chunk("response.output_text.delta");
    assert_eq!(read_log(delta, &Policy::new()), None);
    let record = read_kept_log(chunk("response.failed"));
    assert_eq!(event(&record).payload["error"], "usage limit");
}

/// The spans of Codex have no tool calls.
#[test]
fn a_tool_result_is_a_tool_call_also_in_a_trace() {
    let result = codex_log(json!({
        "event.name": "codex.tool_result",
        "tool_name": "shell",
        "call_id": "call_1",
        "arguments": r#"{"command":["ls"]}"#,
        "output": "no such file",
        "success": "false",
        "duration_ms": "40",
        "mcp_server": "",
    }));
    for log in [result.clone(), in_trace(result)] {
        let record = read_kept_log(log);
        let event = event(&record);
        assert_eq!(
            (event.event_type.as_str(), event.call_id.as_str()),
            ("tool_call", "call_1")
        );
        assert_eq!(event.payload["arguments"], json!({"command": ["ls"]}));
        assert_eq!(event.payload["result"], "no such file");
        assert_eq!(event.payload["error"], "failed");
        assert_eq!(record.duration.map(|took| took.as_millis()), Some(40));
    }
}

#[test]
fn other_logs_are_kept() {
    let attributes = json!({"event.name": "codex.user_prompt", "prompt": "Why?"});
    let record = read_kept_log(codex_log(attributes));
    assert_eq!(record.run.inputs, object(json!({"prompt": "Why?"})));
    for name in ["codex.conversation_starts", "codex.tool_decision"] {
        let record = read_kept_log(codex_log(json!({"event.name": name})));
        assert_eq!(event(&record).event_type, "log");
        assert_eq!(event(&record).payload["name"], name);
    }
}
