use crate::convention::{Convention, Mark, Meaning};

const OPERATION: &[&str] = &["openinference.span.kind"];

const OPERATIONS: &[(&str, Meaning)] = &[
    ("AGENT", Meaning::Run),
    ("CHAIN", Meaning::Chain),
    ("LLM", Meaning::ModelCall),
    ("EMBEDDING", Meaning::ModelCall),
    ("RERANKER", Meaning::ModelCall),
    ("TOOL", Meaning::ToolCall),
];

/// OpenInference, which instruments LangChain, LangGraph, the OpenAI Agents SDK and others.
pub(crate) const OPEN_INFERENCE: Convention = Convention {
    prefixes: &["openinference.", "llm."],
    operation: OPERATION,
    operations: OPERATIONS,
    agent_name: &["agent.name"],
    provider: &["llm.provider"],
    request_model: &["llm.model_name"],
    input_tokens: &["llm.token_count.prompt"],
    cache_read_tokens: &["llm.token_count.prompt_details.cache_read"],
    cache_write_tokens: &["llm.token_count.prompt_details.cache_write"],
    output_tokens: &["llm.token_count.completion"],
    thinking_tokens: &["llm.token_count.completion_details.reasoning"],
    cost: &["llm.cost.total"],
    request_parameters: &["llm.invocation_parameters"],
    tool_name: &["tool.name"],
    call_id: &["tool.id", "tool_call.id"],
    tool_arguments: &["input.value"],
    tool_result: &["output.value"],
    indexed_messages: &["llm.input_messages."],
    input: &["input.value"],
    indexed_output: &["llm.output_messages."],
    output: &["output.value"],
    fillers: &["message", "message_content", "tool_call"],
    content: &[
        "embedding.embeddings.*",
        "llm.prompt_template.*",
        "llm.prompts*",
        "llm.tools.*",
        "reranker.*",
        "retrieval.documents.*",
        "tool.parameters",
    ],
    ..Convention::NONE
};

/// What OpenInference sends for LangChain and LangGraph. Every span whose name contains `agent` is
/// an `AGENT`, even if it is a tool or a node of a graph, and an agent with another name is a
/// `CHAIN`. The metadata shows what it really is.
pub(crate) const LANGCHAIN: Convention = Convention {
    marks: &[
        Mark::Scope("openinference.instrumentation.langchain"),
        Mark::Scope("@arizeai/openinference-instrumentation-langchain"),
    ],
    operation: OPERATION,
    operations: OPERATIONS,
    context: &["metadata"],
    context_agent: &["lc_agent_name"],
    context_step: &["langgraph_node"],
    tool_name: &["tool.name"],
    ..Convention::NONE
};
