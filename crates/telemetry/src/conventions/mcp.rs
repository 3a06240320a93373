use crate::convention::{Convention, Mark, Meaning};

/// The Model Context Protocol. It precedes [`GEN_AI`](super::GEN_AI), which calls a tool on a
/// server `execute_tool`, too.
pub(crate) const MCP: Convention = Convention {
    marks: &[Mark::Attribute("mcp.")],
    prefixes: &["mcp."],
    operation: &["mcp.method.name"],
    operations: &[("tools/call", Meaning::RemoteToolCall)],
    channel: &["mcp.session.id"],
    tool_name: &["mcp.tool.name"],
    call_id: &["jsonrpc.request.id"],
    ..Convention::NONE
};
