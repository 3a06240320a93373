//! How spans are read by the conventions of `runtrail-telemetry`.

use runtrail_audit::Usage;
use runtrail_telemetry::{Attributes, Convention, Meaning, TRACING};
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

impl Kind {
    pub(super) fn of(fields: &Fields) -> Self {
        match TRACING.operation(fields) {
            Some(Meaning::Run) => Self::Agent,
            Some(Meaning::ToolCall) => Self::ToolCall,
            Some(Meaning::ModelCall) => Self::ModelCall,
            _ => Self::Other,
        }
    }
}

pub(super) fn agent_name(fields: &Fields) -> Option<&str> {
    TRACING.text(fields, |names| names.agent_name)
}

pub(super) fn caller(fields: &Fields) -> Option<&str> {
    TRACING.text(fields, |names| names.caller)
}

pub(super) fn channel(fields: &Fields) -> Option<&str> {
    TRACING.text(fields, |names| names.channel)
}

pub(super) fn tool_name(fields: &Fields) -> Option<&str> {
    TRACING.text(fields, |names| names.tool_name)
}

pub(super) fn tool_arguments(fields: &Fields) -> Option<&str> {
    TRACING.text(fields, |names| names.tool_arguments)
}

/// Whether a field has the name or the arguments of a tool.
pub(super) fn is_tool(field: &str) -> bool {
    TRACING.has(field, |names| names.tool_name) || TRACING.has(field, |names| names.tool_arguments)
}

pub(super) fn input(fields: &Fields) -> Option<&str> {
    let input = |names: &Convention| {
        let text = fields.text(names.input);
        text.or_else(|| fields.text(names.messages))
    };
    TRACING.conventions().find_map(input)
}

pub(super) fn output(fields: &Fields) -> Option<&str> {
    let output = |names: &Convention| {
        let text = fields.text(names.output);
        text.or_else(|| fields.text(names.output_messages))
            .or_else(|| fields.text(names.tool_result))
    };
    TRACING.conventions().find_map(output)
}

pub(super) fn error(fields: &Fields) -> Option<&str> {
    TRACING.text(fields, |names| names.error)
}

/// Whether a model call declares fields for an answer, but has recorded none of them.
pub(super) fn is_unanswered(metadata: &Metadata<'_>, fields: &Fields) -> bool {
    let is_answer = |field: &str| {
        TRACING.conventions().any(|names| {
            let answers = [
                names.response_id,
                names.response_model,
                names.finish_reasons,
                names.output,
                names.output_messages,
                names.input_tokens,
                names.output_tokens,
            ];
            answers.iter().any(|names| names.contains(&field))
        })
    };
    let mut declared = metadata
        .fields()
        .iter()
        .map(|field| field.name())
        .filter(|name| is_answer(name))
        .peekable();
    declared.peek().is_some() && declared.all(|name| fields.get(name).is_none())
}

/// Whether the span of a run reports a result of its own.
pub(super) fn has_result(fields: &Fields) -> bool {
    output(fields).is_some()
        || TRACING
            .number(fields, |names| names.output_tokens)
            .is_some()
}

/// Whether a usage counts tokens.
pub(super) fn has_tokens(usage: &Usage) -> bool {
    usage.input_tokens.is_some() || usage.output_tokens.is_some()
}

/// Whether a field has the text of a prompt, an answer or a tool call.
pub(super) fn is_content(field: &str) -> bool {
    TRACING.is_content(field)
}

/// Whether the payload of an event leaves out this field: its usage or its type states it.
pub(super) fn is_usage(field: &str) -> bool {
    TRACING.has(field, |names| names.provider)
        || TRACING.has(field, |names| names.input_tokens)
        || TRACING.has(field, |names| names.cache_read_tokens)
        || TRACING.has(field, |names| names.cache_write_tokens)
        || TRACING.has(field, |names| names.output_tokens)
        || TRACING.has(field, |names| names.thinking_tokens)
        || TRACING.has(field, |names| names.operation)
        || TRACING.has(field, |names| names.response_model)
}

/// Returns the usage that a span reports, in a form that can be stored.
pub(super) fn usage(fields: &Fields) -> Option<Usage> {
    TRACING.usage(fields)
}
