use crate::convention::{Convention, Mark, Meaning};

/// swiftide. It logs inputs and outputs as events inside its spans.
pub(crate) const SWIFTIDE: Convention = Convention {
    marks: &[
        Mark::Name("agent.query"),
        Mark::Name("agent.run"),
        Mark::Name("tool."),
        Mark::Scope("swiftide"),
        Mark::Attribute("langfuse."),
    ],
    prefixes: &["langfuse."],
    operation: &["langfuse.type"],
    operations: &[
        ("GENERATION", Meaning::ModelCall),
        ("generation", Meaning::ModelCall),
    ],
    span_names: &[
        ("agent.query", Meaning::Run),
        ("agent.query_once", Meaning::Run),
        ("agent.run", Meaning::Run),
        ("agent.run_once", Meaning::Run),
        ("tool.*", Meaning::ToolCall),
    ],
    caller: &["langfuse.user.id"],
    channel: &["langfuse.session.id"],
    request_model: &["langfuse.model"],
    input_tokens: &["langfuse.usage.prompt_tokens"],
    output_tokens: &["langfuse.usage.completion_tokens"],
    request_parameters: &["langfuse.model_parameters"],
    tool_name: &["tool_name"],
    tool_arguments: &["langfuse.input", "args"],
    tool_result: &["langfuse.output", "output"],
    input: &["langfuse.input"],
    output: &["langfuse.output"],
    hoisted: &[
        "langfuse.input",
        "langfuse.output",
        "tool_name",
        "args",
        "output",
    ],
    expanded: &["langfuse.usage"],
    ..Convention::NONE
};
