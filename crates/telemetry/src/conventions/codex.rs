use crate::convention::{Convention, Entry, LogRule, Mark, Meaning};

/// OpenAI Codex. Its spans have no texts: these are in its logs.
pub(crate) const CODEX: Convention = Convention {
    marks: &[
        Mark::Name("codex."),
        Mark::Name("session_task."),
        Mark::Service("codex"),
        Mark::Service("Codex"),
        Mark::Attribute("codex."),
    ],
    prefixes: &["codex.turn.", "codex.usage."],
    span_names: &[
        ("session_task.turn", Meaning::Run),
        ("handle_responses", Meaning::ModelCall),
    ],
    log_prefix: "codex.",
    logs: &[
        LogRule {
            name: "user_prompt",
            only_if: None,
            entry: Entry::Prompt,
            has_span: false,
        },
        LogRule {
            name: "tool_result",
            only_if: None,
            entry: Entry::ToolCall,
            has_span: false,
        },
        LogRule {
            name: "sse_event",
            only_if: Some(("event.kind", "response.completed")),
            entry: Entry::ModelCall,
            has_span: true,
        },
        LogRule {
            name: "sse_event",
            only_if: Some(("event.kind", "response.failed")),
            entry: Entry::Log,
            has_span: false,
        },
        LogRule {
            name: "sse_event",
            only_if: None,
            entry: Entry::Noise,
            has_span: false,
        },
        LogRule {
            name: "conversation_starts",
            only_if: None,
            entry: Entry::Log,
            has_span: false,
        },
    ],
    skill: "codex",
    caller: &["user.email", "user.account_id"],
    channel: &["conversation.id", "thread.id"],
    group: &["conversation.id"],
    request_model: &["model", "slug"],
    input_tokens: &["codex.turn.token_usage.input_tokens", "input_token_count"],
    cache_read_tokens: &[
        "codex.turn.token_usage.cached_input_tokens",
        "cached_token_count",
    ],
    cache_write_tokens: &["codex.turn.token_usage.cache_write_input_tokens"],
    output_tokens: &["codex.turn.token_usage.output_tokens", "output_token_count"],
    thinking_tokens: &[
        "codex.turn.token_usage.reasoning_output_tokens",
        "codex.usage.reasoning_output_tokens",
        "reasoning_token_count",
    ],
    tool_name: &["tool_name"],
    call_id: &["call_id"],
    tool_arguments: &["arguments"],
    tool_result: &["output"],
    input: &["prompt"],
    success: &["success"],
    duration_ms: &["duration_ms"],
    ..Convention::NONE
};
