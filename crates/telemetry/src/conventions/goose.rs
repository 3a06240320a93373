use crate::convention::{Convention, Mark, Meaning};

/// goose. Newer versions also send the names of [`GEN_AI`](super::GEN_AI).
pub(crate) const GOOSE: Convention = Convention {
    marks: &[Mark::Service("goose"), Mark::Scope("goose")],
    span_names: &[
        ("reply", Meaning::Run),
        ("stream_response_from_provider", Meaning::ModelCall),
        ("dispatch_tool_call", Meaning::ToolCall),
    ],
    skill: "goose",
    tool_name: &["tool_name"],
    tool_arguments: &["input"],
    tool_result: &["output"],
    input: &["input"],
    output: &["output"],
    content: &["user_message", "messages", "trace_input"],
    ..Convention::NONE
};
