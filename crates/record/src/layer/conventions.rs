//! The names by which spans of agents are recognised: those of OpenTelemetry's GenAI conventions
//! and of OpenInference, and older ones that are still in use.

use runtrail_audit::Usage;
use runtrail_audit::rules;
use tracing::Metadata;

use super::fields::Fields;

/// What a span stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A run.
    Agent,
    ModelCall,
    ToolCall,
    /// A span that isn't about an agent.
    Other,
}

const OPERATION: &[&str] = &["gen_ai.operation.name", "openinference.span.kind"];
const AGENTS: &[&str] = &["invoke_agent", "invoke_workflow", "create_agent", "AGENT"];
const TOOLS: &[&str] = &["execute_tool", "TOOL"];
const MODEL_CALLS: &[&str] = &[
    "chat",
    "generate_content",
    "text_completion",
    "embeddings",
    "rerank",
    "transcription",
    "image_generation",
    "audio_generation",
    "LLM",
    "EMBEDDING",
    "RERANKER",
];

pub(super) const AGENT_NAME: &[&str] = &["gen_ai.agent.name", "agent.name"];
pub(super) const CALLER: &[&str] = &["user.id", "enduser.id"];
pub(super) const CHANNEL: &[&str] = &["gen_ai.conversation.id", "session.id"];
pub(super) const TOOL_NAME: &[&str] = &["gen_ai.tool.name", "tool.name"];
pub(super) const TOOL_ARGUMENTS: &[&str] = &["gen_ai.tool.call.arguments", "input.value"];
pub(super) const INPUT: &[&str] = &["gen_ai.prompt", "gen_ai.input.messages", "input.value"];
pub(super) const OUTPUT: &[&str] = &[
    "gen_ai.completion",
    "gen_ai.output.messages",
    "gen_ai.tool.call.result",
    "output.value",
];
pub(super) const ERROR: &[&str] = &[
    "exception.message",
    "otel.status_description",
    "error.message",
    "error",
    "error.type",
    "gen_ai.tool.error.type",
];

/// What a model call reports once the model has answered, besides tokens.
const ANSWER: &[&str] = &[
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.completion",
    "gen_ai.output.messages",
    "output.value",
];

/// Texts of prompts, answers and tools.
const CONTENT: &[&str] = &[
    "gen_ai.system_instructions",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.tool.definitions",
    "input.value",
    "output.value",
];

const PROVIDER: &[&str] = &["gen_ai.provider.name", "gen_ai.system", "llm.provider"];
const MODEL: &[&str] = &[
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.model_name",
];
const INPUT_TOKENS: &[&str] = &[
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
];
const CACHE_READ_TOKENS: &[&str] = &[
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
];
const CACHE_WRITE_TOKENS: &[&str] = &[
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
];
const OUTPUT_TOKENS: &[&str] = &[
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
];
const THINKING_TOKENS: &[&str] = &[
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
];

impl Kind {
    pub(super) fn of(fields: &Fields) -> Self {
        match fields.text(OPERATION) {
            Some(name) if AGENTS.contains(&name) => Self::Agent,
            Some(name) if TOOLS.contains(&name) => Self::ToolCall,
            Some(name) if MODEL_CALLS.contains(&name) => Self::ModelCall,
            _ => Self::Other,
        }
    }
}

/// Whether a model call declares fields for an answer, but has recorded none of them.
pub(super) fn is_unanswered(metadata: &Metadata<'_>, fields: &Fields) -> bool {
    let answers = [ANSWER, INPUT_TOKENS, OUTPUT_TOKENS];
    let mut declared = metadata
        .fields()
        .iter()
        .map(|field| field.name())
        .filter(|name| answers.iter().any(|names| names.contains(name)))
        .peekable();
    declared.peek().is_some() && declared.all(|name| fields.get(name).is_none())
}

/// Whether the span of a run reports a result of its own.
pub(super) fn has_result(fields: &Fields) -> bool {
    fields.text(OUTPUT).is_some() || fields.number(OUTPUT_TOKENS).is_some()
}

/// Whether a usage counts tokens.
pub(super) fn has_tokens(usage: &Usage) -> bool {
    usage.input_tokens.is_some() || usage.output_tokens.is_some()
}

/// Whether a field has the text of a prompt, an answer or a tool call.
pub(super) fn is_content(field: &str) -> bool {
    CONTENT.contains(&field)
}

/// Whether the payload of an event leaves out this field: its usage or its type states it.
pub(super) fn is_usage(field: &str) -> bool {
    let names = [
        PROVIDER,
        INPUT_TOKENS,
        CACHE_READ_TOKENS,
        CACHE_WRITE_TOKENS,
        OUTPUT_TOKENS,
        THINKING_TOKENS,
        OPERATION,
        &["gen_ai.response.model"],
    ];
    names.iter().any(|names| names.contains(&field))
}

/// Returns the usage that a span reports, in a form that can be stored.
pub(super) fn usage(fields: &Fields) -> Option<Usage> {
    let name = |names| {
        let name = fields.text(names)?;
        let end = name.floor_char_boundary(rules::MAX_IDENTIFIER_BYTES);
        Some(name[..end].replace('\0', "\u{FFFD}"))
    };
    let number = |names| {
        fields
            .number(names)
            .filter(|number| i64::try_from(*number).is_ok())
    };
    let mut usage = Usage::new();
    usage.provider = name(PROVIDER);
    usage.model = name(MODEL);
    usage.cache_read_tokens = number(CACHE_READ_TOKENS);
    usage.cache_write_tokens = number(CACHE_WRITE_TOKENS);
    usage.thinking_tokens = number(THINKING_TOKENS);
    let cached = [usage.cache_read_tokens, usage.cache_write_tokens];
    usage.input_tokens = whole(number(INPUT_TOKENS), &cached);
    usage.output_tokens = whole(number(OUTPUT_TOKENS), &[usage.thinking_tokens]);
    // The sums may be too large to store.
    let is_valid = rules::usage(&usage).is_ok();
    (is_valid && usage != Usage::new()).then_some(usage)
}

/// Returns the number of all tokens. If the parts exceed the reported number, the sender hasn't
/// included them in it.
fn whole(reported: Option<u64>, parts: &[Option<u64>]) -> Option<u64> {
    if parts.iter().all(Option::is_none) {
        return reported;
    }
    let sum = parts
        .iter()
        .flatten()
        .fold(0_u64, |sum, part| sum.saturating_add(*part));
    let reported = reported.unwrap_or_default();
    Some(match sum > reported {
        true => reported.saturating_add(sum),
        false => reported,
    })
}
