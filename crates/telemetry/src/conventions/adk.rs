use crate::convention::{Convention, Mark, Meaning};

/// Google's Agent Development Kit: JSON of whole requests and answers beside the names of
/// [`GEN_AI`](super::GEN_AI).
pub(crate) const ADK: Convention = Convention {
    marks: &[
        Mark::Scope("gcp.vertex.agent"),
        Mark::Attribute("gcp.vertex.agent."),
    ],
    prefixes: &["gcp.vertex.agent."],
    span_names: &[
        ("call_llm", Meaning::ModelCall),
        // Repeats the results of parallel calls, which have spans of their own.
        ("execute_tool (merged tools)", Meaning::Step),
    ],
    channel: &["gcp.vertex.agent.session_id"],
    response_id: &["gcp.vertex.agent.event_id"],
    tool_arguments: &["gcp.vertex.agent.tool_call_args"],
    tool_result: &["gcp.vertex.agent.tool_response"],
    messages: &["gcp.vertex.agent.llm_request"],
    output: &["gcp.vertex.agent.llm_response"],
    content: &["gcp.vertex.agent.data"],
    ..Convention::NONE
};
