use std::time::Duration;

use runtrail_audit::RunStats;
use serde_json::{Map, json};

use super::*;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn finished(id: &str, status: RunStatus) -> SkillRun {
    SkillRun::new(id, "summarise", at(0)).finished(at(10), RunStats::new(status))
}

fn event(sequence: u64, event_type: &str, payload: Value) -> SkillRunLog {
    SkillRunLog::new("run-1", sequence, event_type, payload).created_at(at(5))
}

fn as_json(exported: &ExportedSpan) -> Value {
    serde_json::to_value(&exported.span).unwrap()
}

fn length(exported: &ExportedSpan) -> usize {
    as_json(exported).to_string().len()
}

/// Returns the span of a run without events.
fn run_span(run: &SkillRun) -> Value {
    as_json(&RunSpans::new(run, &run.id).unwrap().finish())
}

/// Returns the span of an event of a run.
fn event_span(event: SkillRunLog) -> Value {
    let run = finished("run-1", RunStatus::OK);
    as_json(&RunSpans::new(&run, "run-1").unwrap().add(event).unwrap())
}

/// Returns the attributes of a span or a resource with their plain values.
fn attributes(span: &Value) -> Map<String, Value> {
    let attributes = span["attributes"].as_array().unwrap().iter();
    let attributes = attributes.map(|it| {
        let (kind, value) = it["value"].as_object().unwrap().iter().next().unwrap();
        let value = match kind.as_str() {
            "intValue" => value.as_str().unwrap().parse::<i64>().unwrap().into(),
            _ => value.clone(),
        };
        (it["key"].as_str().unwrap().to_owned(), value)
    });
    attributes.collect()
}

#[test]
fn a_run_has_the_attributes_of_an_agent() {
    let run = finished("run-1", RunStatus::OK)
        .caller("alice")
        .channel("chat-7")
        .input("prompt", "Why?")
        .label("service", "desk")
        .label("environment", "prod")
        .label("team", "blue");
    let mut run = run;
    run.output = "because".to_owned();
    let span = RunSpans::new(&run, "run-1").unwrap().finish();
    let resource = json!({"attributes": *span.resource});
    assert_eq!(
        Value::from(attributes(&resource)),
        json!({"service.name": "desk", "deployment.environment.name": "prod"})
    );
    let span = as_json(&span);
    assert_eq!(
        Value::from(attributes(&span)),
        json!({
            "gen_ai.operation.name": "invoke_agent",
            "openinference.span.kind": "AGENT",
            "gen_ai.agent.name": "summarise",
            "gen_ai.conversation.id": "chat-7",
            "session.id": "chat-7",
            "user.id": "alice",
            "input.value": "Why?",
            "output.value": "because",
            "runtrail.run_id": "run-1",
            "runtrail.status": "ok",
            "runtrail.label.team": "blue",
        })
    );
    assert_eq!(span["name"], "invoke_agent summarise");
    assert_eq!(span["startTimeUnixNano"], "1700000000000000000");
    assert_eq!(span["endTimeUnixNano"], "1700000010000000000");
    assert_eq!(span["status"], json!({"code": 1}));
    assert_eq!(span["parentSpanId"], Value::Null);
}

#[test]
fn a_running_run_has_no_spans() {
    let run = SkillRun::new("run-1", "summarise", at(0));
    assert!(RunSpans::new(&run, "run-1").is_none());
}

#[test]
fn runs_of_a_tree_share_a_trace() {
    let child = finished("child", RunStatus::OK).parent("run-1");
    let [top, below] = [&finished("run-1", RunStatus::OK), &child]
        .map(|run| as_json(&RunSpans::new(run, "run-1").unwrap().finish()));
    assert_eq!(below["traceId"], top["traceId"]);
    assert_eq!(below["parentSpanId"], top["spanId"]);
    // Its parent isn't stored.
    let alone = run_span(&child);
    assert_eq!(alone["spanId"], below["spanId"]);
    assert_ne!(alone["traceId"], below["traceId"]);
    assert_eq!(alone["parentSpanId"], Value::Null);
}

#[test]
fn a_failure_has_its_message_and_its_kind() {
    for (status, error, expected, kind) in [
        ("error", "no", json!({"code": 2, "message": "no"}), None),
        ("error", "", json!({"code": 2}), None),
        ("timeout", "", json!({"code": 2}), Some("timeout")),
        ("interrupted", "", json!({"code": 2}), Some("interrupted")),
        (
            "cancelled",
            "no",
            json!({"code": 2, "message": "no"}),
            Some("cancelled"),
        ),
        ("cancelled", "", json!({"code": 1}), None),
        ("dry_run", "", json!({"code": 1}), None),
        ("ok", "a warning", json!({"code": 1}), None),
    ] {
        let mut run = finished("run-1", status.into());
        run.error = error.to_owned();
        let span = run_span(&run);
        assert_eq!(span["status"], expected, "{status}");
        let attributes = attributes(&span);
        assert_eq!(attributes.get("error.type").and_then(Value::as_str), kind);
        assert_eq!(attributes["runtrail.status"], status);
    }
}

#[test]
fn inputs_are_messages_a_prompt_or_json() {
    let messages = json!([{"role": "user", "content": "Why?"}]);
    for (inputs, key, value) in [
        (
            json!({"messages": messages}),
            "gen_ai.input.messages",
            messages.to_string(),
        ),
        (
            json!({"messages": messages}),
            "input.value",
            messages.to_string(),
        ),
        (json!({"prompt": "Why?"}), "input.value", "Why?".to_owned()),
        (
            json!({"prompt": "{}"}),
            "input.value",
            r#"{"prompt":"{}"}"#.to_owned(),
        ),
        (
            json!({"a": 1, "prompt": "b"}),
            "input.value",
            r#"{"a":1,"prompt":"b"}"#.to_owned(),
        ),
        (
            json!({"messages": ["a"]}),
            "input.value",
            r#"{"messages":["a"]}"#.to_owned(),
        ),
    ] {
        let mut run = finished("run-1", RunStatus::OK);
        run.inputs = inputs.as_object().unwrap().clone();
        assert_eq!(attributes(&run_span(&run))[key], value);
    }
}

#[test]
fn a_model_call_has_its_usage_and_messages() {
    let usage = Usage::new()
        .provider("anthropic")
        .model("claude-5")
        .input_tokens(100)
        .cache_read_tokens(60)
        .cache_write_tokens(20)
        .output_tokens(50)
        .thinking_tokens(5)
        .cost_micros(4_200);
    let messages = json!([{"role": "user", "content": "Why?"}]);
    let output = json!([{"role": "assistant", "content": "because"}]);
    let call = json!({
        "span_id": "00f067aa0ba902b7",
        "request": {"model": "claude", "temperature": 0.5},
        "response_id": "msg-1",
        "finish_reasons": ["stop"],
        "system": "Be short.",
        "messages": messages,
        "messages_sha256": "abc",
        "earlier_messages": 2,
        "output": output,
        "attributes": {"server.port": 443, "gen_ai.provider.name": "not again"},
    });
    let call = event(3, "model_call", call).duration(Duration::from_millis(1_500));
    let span = event_span(call.usage(usage));
    assert_eq!(
        Value::from(attributes(&span)),
        json!({
            "gen_ai.operation.name": "chat",
            "openinference.span.kind": "LLM",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude",
            "gen_ai.response.model": "claude-5",
            "llm.model_name": "claude-5",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.cache_write.input_tokens": 20,
            "gen_ai.usage.cache_creation.input_tokens": 20,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.reasoning.output_tokens": 5,
            "gen_ai.usage.cost": 0.0042,
            "llm.token_count.prompt": 100,
            "llm.token_count.completion": 50,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.response.id": "msg-1",
            "gen_ai.response.finish_reasons": {"values": [{"stringValue": "stop"}]},
            "gen_ai.system_instructions": "Be short.",
            "gen_ai.input.messages": messages.to_string(),
            "gen_ai.output.messages": output.to_string(),
            "input.value": messages.to_string(),
            "output.value": output.to_string(),
            "server.port": 443,
            "runtrail.payload": r#"{"earlier_messages":2}"#,
        })
    );
    assert_eq!(
        (&span["name"], &span["kind"]),
        (&json!("chat claude-5"), &json!(3))
    );
    assert_eq!(span["spanId"], "00f067aa0ba902b7");
    assert_eq!(span["startTimeUnixNano"], "1700000003500000000");
    assert_eq!(span["endTimeUnixNano"], "1700000005000000000");
}

#[test]
fn a_tool_call_has_its_arguments_and_its_result() {
    let call = json!({
        "tool": "search", "call_id": "c1", "arguments": {"q": 1}, "result": "2 hits",
        "error": "slow", "note": "host's own",
    });
    let span = event_span(event(0, "tool_call", call));
    assert_eq!(
        Value::from(attributes(&span)),
        json!({
            "gen_ai.operation.name": "execute_tool",
            "openinference.span.kind": "TOOL",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.tool.call.arguments": r#"{"q":1}"#,
            "gen_ai.tool.call.result": "2 hits",
            "input.value": r#"{"q":1}"#,
            "output.value": "2 hits",
            "runtrail.payload": r#"{"note":"host's own"}"#,
        })
    );
    assert_eq!(span["name"], "execute_tool search");
    assert_eq!(span["status"], json!({"code": 2, "message": "slow"}));
}

#[test]
fn payloads_of_any_form_are_accepted() {
    for payload in [
        json!(null),
        json!(7),
        json!(["a"]),
        json!({"tool": 1, "request": "x"}),
    ] {
        for event_type in ["model_call", "tool_call", "span"] {
            let mut run = finished("run-1", RunStatus::OK);
            run.skill_id = String::new();
            let mut spans = RunSpans::new(&run, "run-1").unwrap();
            spans.add(event(0, event_type, payload.clone()));
            assert_eq!(as_json(&spans.finish())["name"], "invoke_agent");
        }
    }
    // A custom event with a usage is a call, so that its tokens are exported.
    let custom = event(0, "step", json!("text")).usage(Usage::new().input_tokens(7));
    let span = event_span(custom);
    assert_eq!(span["name"], "chat");
    let attributes = attributes(&span);
    assert_eq!(attributes["gen_ai.usage.input_tokens"], 7);
    assert_eq!(attributes["runtrail.payload"], r#"{"value":"text"}"#);
}

#[test]
fn other_events_are_bounded() {
    let run = finished("run-1", RunStatus::OK);
    let mut spans = RunSpans::new(&run, "run-1").unwrap();
    for sequence in 0..1_000 {
        let line = json!({"text": "x".repeat(100_000), "number": sequence});
        assert!(spans.add(event(sequence, "stdout", line)).is_none());
    }
    let span = spans.finish();
    let length = length(&span);
    assert!(length < 1 << 20, "{length}");
    let span = as_json(&span);
    let events = span["events"].as_array().unwrap();
    assert_eq!(
        (events.len(), &span["droppedEventsCount"]),
        (128, &json!(872))
    );
    assert_eq!(events[0]["name"], "stdout");
    let payload = |place: usize| attributes(&events[place])["runtrail.payload"].to_string();
    assert!(payload(63).contains(r#"number\":63,"#));
    assert!(payload(64).contains(r#"number\":936,"#));
}

#[test]
fn the_largest_span_fits_into_a_request() {
    let mut run = finished("run-1", RunStatus::ERROR).input("a", "\u{1b}".repeat(1 << 20));
    run.output = "\"".repeat(4 << 20);
    run.error = "\n".repeat(4 << 20);
    let mut spans = RunSpans::new(&run, "run-1").unwrap();
    for sequence in 0..1_000 {
        spans.add(event(
            sequence,
            &"\u{1b}".repeat(255),
            json!("x".repeat(10_000)),
        ));
    }
    let length = length(&spans.finish());
    assert!(length < 4 << 20, "{length}");
}

#[test]
fn tokens_are_reported_once() {
    let mut run = finished("run-1", RunStatus::OK);
    (run.total_input_tokens, run.total_output_tokens) = (100, 50);
    let key = "gen_ai.usage.input_tokens";
    assert_eq!(attributes(&run_span(&run))[key], 100);
    let mut spans = RunSpans::new(&run, "run-1").unwrap();
    let usage = Usage::new().input_tokens(100).output_tokens(50);
    spans.add(event(0, "model_call", json!({})).usage(usage));
    assert_eq!(attributes(&as_json(&spans.finish())).get(key), None);
}

#[test]
fn times_outside_the_range_of_otlp_are_moved_into_it() {
    let early = DateTime::from_timestamp_micros(-62_135_596_800_000_001).unwrap();
    let late = DateTime::from_timestamp_micros(253_402_300_800_000_000).unwrap();
    let run = SkillRun::new("run-1", "s", early).finished(late, RunStats::new(RunStatus::OK));
    let span = run_span(&run);
    assert_eq!(span["startTimeUnixNano"], "0");
    assert_eq!(span["endTimeUnixNano"], u64::MAX.to_string());
    // A clock that was set back.
    let run = SkillRun::new("run-1", "s", at(5)).finished(at(0), RunStats::new(RunStatus::OK));
    let span = run_span(&run);
    assert_eq!(span["startTimeUnixNano"], span["endTimeUnixNano"]);
}
