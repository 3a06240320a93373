use crate::convention::{Convention, Meaning};

/// OpenLLMetry, the instrumentation of Traceloop. Its model calls have the older names of
/// [`GEN_AI`](super::GEN_AI).
pub(crate) const OPEN_LLMETRY: Convention = Convention {
    prefixes: &["traceloop."],
    operation: &["traceloop.span.kind", "llm.request.type"],
    operations: &[
        ("workflow", Meaning::Run),
        ("agent", Meaning::Run),
        ("tool", Meaning::ToolCall),
        ("chat", Meaning::ModelCall),
        ("completion", Meaning::ModelCall),
        ("embedding", Meaning::ModelCall),
        ("rerank", Meaning::ModelCall),
    ],
    agent_name: &["traceloop.entity.name", "traceloop.workflow.name"],
    caller: &["traceloop.association.properties.user_id"],
    channel: &[
        "traceloop.association.properties.session_id",
        "traceloop.association.properties.thread_id",
    ],
    tool_name: &["traceloop.entity.name"],
    tool_arguments: &["traceloop.entity.input"],
    tool_result: &["traceloop.entity.output"],
    input: &["traceloop.entity.input"],
    output: &["traceloop.entity.output"],
    content: &["llm.request.functions.*"],
    ..Convention::NONE
};
