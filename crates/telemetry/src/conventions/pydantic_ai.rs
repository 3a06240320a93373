use crate::convention::{Convention, Mark};

/// What pydantic-ai sends beside the names of [`GEN_AI`](super::GEN_AI). The span of a run has the
/// total of its calls under names of its own.
pub(crate) const PYDANTIC_AI: Convention = Convention {
    marks: &[
        Mark::Scope("pydantic-ai"),
        Mark::Attribute("pydantic_ai."),
        Mark::Attribute("gen_ai.aggregated_usage."),
        Mark::Attribute("gen_ai.usage.details."),
        Mark::Attribute("logfire."),
    ],
    prefixes: &["pydantic_ai."],
    agent_name: &["agent_name"],
    request_model: &["model_name"],
    input_tokens: &["gen_ai.aggregated_usage.input_tokens"],
    cache_read_tokens: &["gen_ai.aggregated_usage.cache_read.input_tokens"],
    cache_write_tokens: &["gen_ai.aggregated_usage.cache_creation.input_tokens"],
    output_tokens: &["gen_ai.aggregated_usage.output_tokens"],
    thinking_tokens: &[
        "gen_ai.aggregated_usage.details.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
    ],
    cost: &["operation.cost"],
    request_parameters: &["model_request_parameters"],
    tool_arguments: &["tool_arguments"],
    tool_result: &["tool_response"],
    messages: &["events"],
    transcript: &["pydantic_ai.all_messages", "all_messages_events"],
    transcript_start: &["pydantic_ai.new_message_index"],
    output: &["final_result"],
    // The request has the instructions and the tools.
    content: &["model_request_parameters"],
    ..Convention::NONE
};
