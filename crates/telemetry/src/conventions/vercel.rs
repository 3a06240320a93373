use crate::convention::{Convention, Meaning};

/// Vercel's AI SDK up to version 6; version 7 follows [`GEN_AI`](super::GEN_AI). `ai.generateText` is
/// an agent, and repeats the tokens of the `doGenerate` spans below it.
pub(crate) const VERCEL: Convention = Convention {
    prefixes: &[
        "ai.operationId",
        "ai.model.",
        "ai.toolCall.",
        "ai.telemetry.",
    ],
    operation: &["ai.operationId"],
    operations: &[
        ("ai.generateText", Meaning::Run),
        ("ai.streamText", Meaning::Run),
        ("ai.generateObject", Meaning::Run),
        ("ai.streamObject", Meaning::Run),
        ("ai.generateText.doGenerate", Meaning::ModelCall),
        ("ai.streamText.doStream", Meaning::ModelCall),
        ("ai.generateObject.doGenerate", Meaning::ModelCall),
        ("ai.streamObject.doStream", Meaning::ModelCall),
        ("ai.embed.doEmbed", Meaning::ModelCall),
        ("ai.embedMany.doEmbed", Meaning::ModelCall),
        ("ai.rerank.doRerank", Meaning::ModelCall),
        ("ai.toolCall", Meaning::ToolCall),
    ],
    agent_name: &["ai.telemetry.functionId"],
    caller: &["ai.telemetry.metadata.userId"],
    channel: &["ai.telemetry.metadata.sessionId"],
    provider: &["ai.model.provider"],
    response_model: &["ai.response.model"],
    request_model: &["ai.model.id"],
    input_tokens: &[
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
    ],
    cache_read_tokens: &[
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "ai.usage.cachedInputTokens",
    ],
    cache_write_tokens: &["ai.usage.inputTokenDetails.cacheWriteTokens"],
    output_tokens: &["ai.usage.outputTokens", "ai.usage.completionTokens"],
    thinking_tokens: &[
        "ai.usage.outputTokenDetails.reasoningTokens",
        "ai.usage.reasoningTokens",
    ],
    response_id: &["ai.response.id"],
    finish_reasons: &["ai.response.finishReason"],
    request_prefixes: &["ai.settings."],
    tool_name: &["ai.toolCall.name"],
    call_id: &["ai.toolCall.id"],
    tool_arguments: &["ai.toolCall.args"],
    tool_result: &["ai.toolCall.result"],
    messages: &["ai.prompt.messages"],
    input: &["ai.prompt", "ai.value", "ai.values"],
    output: &["ai.response.text", "ai.response.object"],
    content: &[
        "ai.documents",
        "ai.embedding",
        "ai.embeddings",
        "ai.prompt.*",
        "ai.response.files",
        "ai.response.reasoning",
        "ai.response.toolCalls",
        "ai.result.*",
    ],
    ..Convention::NONE
};
