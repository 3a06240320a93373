//! What the spans and logs of agents mean for a history.
//!
//! A receiver converts what it has received to a [`Span`] or a [`LogRecord`]. [`read_span`] and
//! [`read_log`] return a [`Record`]: part of a run, or an event of one. A [`Policy`] decides what is
//! kept of texts. The crate is data and pure functions: no I/O, no state.
//!
//! | span or log | becomes |
//! | --- | --- |
//! | `invoke_agent`, `invoke_workflow`, `create_agent`; OpenInference `AGENT`, a root `CHAIN`; `ai.generateText`, `ai.streamText`; OpenLLMetry `workflow`, `agent`; `claude_code.interaction`; Codex `session_task.turn`; goose `reply`; swiftide `agent.query`, `agent.run`; an MCP server's root `tools/call` | a run |
//! | `chat`, `generate_content`, `text_completion`, `embeddings`, …; `LLM`, `EMBEDDING`, `RERANKER`; `ai.*.doGenerate`, `doStream`, `doEmbed`; `claude_code.llm_request`; `handle_responses`; `stream_response_from_provider`; `call_llm` | an event `model_call` |
//! | `execute_tool`; `TOOL`, `tool`; `ai.toolCall`; `claude_code.tool`; `dispatch_tool_call`; swiftide `tool.*`; an MCP client's `tools/call` | an event `tool_call` |
//! | any other span | an event `span` |
//! | logs of Claude Code and Codex about model and tool calls that no span reports | an event `model_call` or `tool_call` |
//! | any other log | an event `log` |
//!
//! Names and their meanings are tables, one for each convention, in `conventions`. To support a
//! further sender, add a table.
//!
//! # Tokens
//!
//! Input tokens include cached ones, and output tokens include reasoning, whatever the sender does.
//! Only model calls have tokens. A run has the total that its span reports, which counts only if no
//! call of it is known. Numbers that contradict each other are left out, and stay attributes.
//!
//! # Logs
//!
//! A log outside all traces belongs to a run whose id is its [group](Record::group), such as
//! `claude_code-{prompt.id}` or `codex-{conversation.id}`. A log in a trace that repeats what a span
//! reports contributes only what the span lacks: the cost.

mod attributes;
mod convention;
mod conventions;
mod failure;
mod identifier;
mod messages;
mod policy;
mod read_log;
mod read_span;
mod reading;
mod record;
mod span;
mod vocabulary;

pub use attributes::Attributes;
pub use convention::{Convention, Meaning, Names};
pub use policy::Policy;
pub use read_log::read_log;
pub use read_span::read_span;
pub use record::{EventPart, Record, Role, RunPart};
pub use span::{LogRecord, Source, Span, SpanEvent, SpanStatus};
pub use vocabulary::{TRACING, Vocabulary};
