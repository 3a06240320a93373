//! Whatever is received, a record can be stored.

use std::time::Instant;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use runtrail_audit::{Limits, rules};
use runtrail_telemetry::{LogRecord, Policy, Record, Span, SpanStatus, read_log, read_span};
use serde_json::{Map, Value, json};

use crate::fixture::*;

const MAX_TEXT_BYTES: usize = 300;
const MAX_PAYLOAD_BYTES: usize = 2_000;

fn policy() -> Policy {
    Policy::new()
        .max_text_bytes(MAX_TEXT_BYTES)
        .max_payload_bytes(MAX_PAYLOAD_BYTES)
}

fn name() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "gen_ai.operation.name",
        "gen_ai.agent.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.provider.name",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.cost",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.prompt",
        "gen_ai.prompt.0.content",
        "gen_ai.prompt.0.content.0.x",
        "gen_ai.prompt.99999999999.content",
        "gen_ai.completion.1.role",
        "gen_ai.tool.name",
        "gen_ai.tool.call.id",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "openinference.span.kind",
        "llm.input_messages.0.message.role",
        "llm.input_messages.0.message",
        "llm.token_count.prompt",
        "llm.cost.total",
        "llm.invocation_parameters",
        "ai.operationId",
        "ai.settings.maxRetries",
        "traceloop.span.kind",
        "traceloop.entity.name",
        "mcp.method.name",
        "langfuse.type",
        "langfuse.usage",
        "prompt.id",
        "session.id",
        "conversation.id",
        "user.id",
        "event.name",
        "event.kind",
        "duration_ms",
        "cost_usd",
        "input_tokens",
        "cache_read_tokens",
        "input_token_count",
        "model",
        "success",
        "error",
        "error.type",
        "password",
    ];
    prop_oneof![
        8 => proptest::sample::select(NAMES).prop_map(str::to_owned),
        1 => "\\PC{0,300}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    const TEXTS: &[&str] = &[
        "chat",
        "execute_tool",
        "invoke_agent",
        "AGENT",
        "CHAIN",
        "LLM",
        "TOOL",
        "ai.toolCall",
        "workflow",
        "tools/call",
        "GENERATION",
        "claude_code.tool",
        "claude_code.api_request",
        "claude_code.user_prompt",
        "codex.tool_result",
        "codex.sse_event",
        "response.completed",
        "120",
        "0.0875",
        "-1",
        "NaN",
        "1e999",
        "9223372036854775808",
        "true",
        "false",
        "\0",
        "data:image/png;base64,aGVsbG8=",
        "data:;base64,",
        "sk-ant-api03-abcdefghijklmnop1",
        "[[[[{\"a\":[{\"password\":\"x\"}]}]]]]",
        "{\"prompt_tokens\":5,\"completion_tokens\":-5}",
        "{\"messages\":[1,null]}",
        "-----BEGIN PRIVATE KEY-----",
    ];
    prop_oneof![
        6 => proptest::sample::select(TEXTS).prop_map(str::to_owned),
        2 => any::<String>(),
        1 => "[\u{e4}\0]{0,900}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => text().prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        // Deeper than the store allows.
        1 => (0_usize..120).prop_map(|depth| (0..depth).fold(json!(1), |value, _| json!([value]))),
        1 => (0_usize..120).prop_map(|depth| {
            format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into()
        }),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(name(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Map<String, Value>> {
    btree_map(name(), value(), 0..25).prop_map(|attributes| attributes.into_iter().collect())
}

prop_compose! {
    fn spans()(
        name in prop_oneof![text(), name()],
        is_root: bool,
        is_server: bool,
        attributes in attributes(),
        events in vec((prop_oneof![name(), Just("gen_ai.user.message".to_owned())], attributes()), 0..3),
        status in prop_oneof![
            Just(SpanStatus::Unset),
            Just(SpanStatus::Ok),
            text().prop_map(SpanStatus::Error),
        ],
    ) -> Span {
        let mut span = span(&name, json!({}));
        span.is_server = is_server;
        span.attributes = attributes;
        span.status = status;
        span.events = events
            .into_iter()
            .map(|(name, attributes)| span_event(&name, attributes.into()))
            .collect();
        if is_root {
            span.parent_id = None;
        }
        span
    }
}

prop_compose! {
    fn logs()(
        name in prop_oneof![text(), name()],
        body in value(),
        attributes in attributes(),
        is_in_trace: bool,
    ) -> LogRecord {
        let mut log = log(&name, json!({}));
        log.body = body;
        log.attributes = attributes;
        match is_in_trace {
            true => in_trace(log),
            false => log,
        }
    }
}

fn check(record: &Record) -> std::result::Result<(), TestCaseError> {
    let failed = |err: runtrail_audit::Error| TestCaseError::fail(format!("{err}: {record:?}"));
    let limits = Limits::default();
    rules::run_id("group", &record.group).map_err(failed)?;
    let run = &record.run;
    rules::run_id("skill", &run.skill).map_err(failed)?;
    rules::identifier("caller", &run.caller).map_err(failed)?;
    rules::identifier("channel", &run.channel).map_err(failed)?;
    rules::labels(&run.labels).map_err(failed)?;
    rules::json_object("inputs", &run.inputs, &limits).map_err(failed)?;
    if let Some(usage) = &record.usage {
        rules::usage(usage).map_err(failed)?;
    }
    // What is appended to a text that is cut.
    const MAX_SUFFIX_BYTES: usize = 110;
    let texts = [
        run.output.len(),
        run.error.as_deref().unwrap_or_default().len(),
    ];
    for bytes in texts {
        prop_assert!(bytes <= MAX_TEXT_BYTES + MAX_SUFFIX_BYTES, "{record:?}");
    }
    let mut objects = vec![&run.inputs];
    if let Some(event) = &record.event {
        rules::identifier("call_id", &event.call_id).map_err(failed)?;
        objects.push(&event.payload);
        let messages = json!({"messages": event.messages});
        rules::json("messages", &messages, &limits).map_err(failed)?;
        for message in &event.messages {
            let bytes = message.to_string().len();
            prop_assert!(bytes <= MAX_PAYLOAD_BYTES, "{message}");
        }
    }
    for object in objects {
        // A log that repeats a call has its name added.
        let bytes = serde_json::to_string(object).map_or(0, |text| text.len());
        prop_assert!(bytes <= MAX_PAYLOAD_BYTES + 300, "{bytes}: {object:?}");
        let nested = (0..4).fold(Value::Object(object.clone()), |value, _| json!([value]));
        rules::json("payload", &nested, &limits).map_err(failed)?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_span_becomes_a_record_that_can_be_stored(span in spans()) {
        check(&read_span(span.clone(), &policy()))?;
        check(&read_span(span, &policy().without_content().with_secrets()))?;
    }

    #[test]
    fn any_log_becomes_a_record_that_can_be_stored(log in logs()) {
        let records = [policy(), policy().without_content()].map(|policy| read_log(log.clone(), &policy));
        for record in records.iter().flatten() {
            check(record)?;
        }
    }
}

#[test]
fn a_span_with_many_attributes_is_read_in_reasonable_time() {
    let attributes = (0..20_000).map(|index| {
        (
            format!("llm.input_messages.{index}.message.content"),
            Value::from("text"),
        )
    });
    let mut call = span("LLM", json!({"openinference.span.kind": "LLM"}));
    call.attributes.extend(attributes);
    let started = Instant::now();
    let record = read(call);
    // Quadratic, it would take minutes.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    assert_eq!(event(&record).messages.len(), 10_000);
}
