use runtrail_telemetry::Role;
use serde_json::json;

use crate::fixture::*;

/// The AI SDK 7 reports the tokens of a run on its span and on each model call.
#[test]
fn steps_of_version_7_have_no_usage() {
    let run = read(span(
        "invoke_agent gpt-4",
        json!({
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4",
            "gen_ai.agent.name": "support",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 20,
        }),
    ));
    assert_eq!((run.role, run.run.skill.as_str()), (Role::Run, "support"));
    assert_eq!(tokens(&run), [Some(10), None, None, Some(20), None]);
    let step = read(span(
        "step 1",
        json!({"gen_ai.operation.name": "agent_step", "ai.usage.inputTokens": 10}),
    ));
    assert_eq!(
        (step.role, step.is_agentic, &step.usage),
        (Role::Span, true, &None)
    );
    let tool = read(span(
        "execute_tool mcp.ask_question",
        json!({
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "mcp.ask_question",
            "gen_ai.tool.call.id": "tc1",
            "gen_ai.tool.call.arguments": r#"{"question":"Why?"}"#,
            "gen_ai.tool.call.result": r#""So.""#,
        }),
    ));
    let payload = &event(&tool).payload;
    assert_eq!(payload["arguments"], json!({"question": "Why?"}));
    assert_eq!(payload["result"], "So.");
}

#[test]
fn only_the_inner_span_of_an_older_version_is_a_model_call() {
    let outer = json!({
        "operation.name": "ai.generateText summarise",
        "ai.operationId": "ai.generateText",
        "ai.telemetry.functionId": "summarise",
        "ai.model.id": "gpt-4o",
        "ai.prompt": r#"{"prompt":"Why?"}"#,
        "ai.response.text": "So.",
        "ai.usage.promptTokens": 50,
        "ai.usage.completionTokens": 9,
    });
    let mut root = span("ai.generateText", outer);
    root.parent_id = None;
    let record = read(root);
    assert_eq!(record.role, Role::Run);
    // Its total counts only if no call of it is known.
    assert_eq!(tokens(&record), [Some(50), None, None, Some(9), None]);
    assert_eq!(record.run.skill, "summarise");
    assert_eq!(record.run.inputs, object(json!({"prompt": "Why?"})));
    assert_eq!(record.run.output, "So.");

    let record = read(span(
        "ai.generateText.doGenerate",
        json!({
            "operation.name": "ai.generateText.doGenerate summarise",
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.id": "gpt-4o",
            "ai.model.provider": "openai.chat",
            "ai.prompt.messages": r#"[{"role":"user","content":[{"type":"text","text":"Why?"}]}]"#,
            "ai.response.text": "So.",
            "ai.response.finishReason": "stop",
            "ai.response.id": "id-1",
            "ai.response.model": "gpt-4o-2024",
            "ai.settings.maxRetries": 2,
            "ai.usage.inputTokens": 50,
            "ai.usage.cachedInputTokens": 40,
            "ai.usage.outputTokens": 9,
            "ai.usage.reasoningTokens": 3,
            "gen_ai.system": "openai.chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 50,
            "gen_ai.usage.output_tokens": 9,
        }),
    ));
    assert_eq!(record.role, Role::ModelCall);
    assert_eq!(
        tokens(&record),
        [Some(50), Some(40), None, Some(9), Some(3)]
    );
    let event = event(&record);
    assert_eq!(event.messages.len(), 1);
    assert_eq!(
        event.payload,
        object(json!({
            "response_id": "id-1",
            "finish_reasons": "stop",
            "request": {"model": "gpt-4o", "maxRetries": 2},
            "output": "So.",
            "attributes": {"operation.name": "ai.generateText.doGenerate summarise"},
        }))
    );
}

#[test]
fn an_embedding_and_a_tool_call_of_an_older_version() {
    let record = read(span(
        "ai.embed.doEmbed",
        json!({
            "ai.operationId": "ai.embed.doEmbed",
            "ai.model.id": "embedding-3",
            "ai.values": [r#""sunny day""#],
            "ai.usage.tokens": 10,
        }),
    ));
    assert_eq!(
        (record.role, tokens(&record)[0]),
        (Role::ModelCall, Some(10))
    );
    assert_eq!(event(&record).messages, [json!(r#""sunny day""#)]);
    let record = read(span(
        "ai.toolCall",
        json!({
            "ai.operationId": "ai.toolCall",
            "ai.toolCall.name": "weather",
            "ai.toolCall.id": "call-1",
            "ai.toolCall.args": r#"{"city":"Pune"}"#,
            "ai.toolCall.result": r#"{"temp":31}"#,
        }),
    ));
    assert_eq!(
        event(&record).payload,
        object(json!({
            "tool": "weather",
            "call_id": "call-1",
            "arguments": {"city": "Pune"},
            "result": {"temp": 31},
        }))
    );
}
