use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtrail_audit::Usage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a span or a log stands for in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A run.
    Run,
    /// An event `model_call` of a run.
    ModelCall,
    /// An event `tool_call` of a run.
    ToolCall,
    /// An event `span` of a run; a run, if it is the root of a trace with agents.
    Span,
    /// An event of a run that doesn't come from a span. Its type may be `model_call` or
    /// `tool_call`, if no span reports the same call.
    Log,
}

/// A span or a log, in the terms of a history.
///
/// Its texts are already cut, and redacted or left out as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The group of the record: the trace id or, for a log outside all traces, the id of the run
    /// that it belongs to.
    pub group: String,
    /// Its id within the group: that of the span, or a digest of a log.
    pub id: String,
    /// The id of the span above, or of the span in which a log was written.
    pub parent_id: Option<String>,
    /// What it stands for.
    pub role: Role,
    /// Whether it is about agents. A trace without any such record is dropped.
    pub is_agentic: bool,
    /// When it began.
    pub at: DateTime<Utc>,
    /// How long it took; `None` for a log that doesn't report it.
    pub duration: Option<Duration>,
    /// The run that this record describes, or would describe if the receiver turns it into a run.
    /// For a log outside all traces, the run that it belongs to.
    pub run: RunPart,
    /// The event that it is; `None` for a run.
    pub event: Option<EventPart>,
    /// The usage of a call. For a run, the total that its span reports, which is used only if none
    /// of its calls reports tokens. For a log that repeats a call of a span, only the cost, which
    /// the span lacks.
    pub usage: Option<Usage>,
}

/// The part of a [`Record`] that describes a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunPart {
    /// The name of the agent, the tool or the span; not empty.
    pub skill: String,
    /// Who it ran for; may be empty.
    pub caller: String,
    /// The conversation or session; may be empty.
    pub channel: String,
    /// The inputs; empty unless the record is a run, a tool call, the root of a trace, or a log
    /// with the prompt of its run.
    pub inputs: Map<String, Value>,
    /// The output; empty unless the record is a run, the root of a trace, or a log with the answer
    /// of its run.
    pub output: String,
    /// The parent run, if the parent isn't a span. The receiver sets it.
    pub parent: Option<String>,
    /// Why it failed; `None` if it succeeded. May be an empty text.
    pub error: Option<String>,
    /// Labels, within the limits of a run.
    pub labels: BTreeMap<String, String>,
}

/// The part of a [`Record`] that describes an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventPart {
    /// The type of the event, such as `model_call`.
    pub event_type: String,
    /// Its payload, without the messages.
    pub payload: Map<String, Value>,
    /// The input messages of a model call. Each call repeats those of the one before, so only the
    /// new ones are stored.
    pub messages: Vec<Value>,
    /// For each message of the call, a digest of it and of all messages before it, set by the
    /// receiver. There are more digests than messages if the first messages were left out for their
    /// size.
    pub digests: Vec<String>,
    /// The id of the model's answer or of the tool call; may be empty. A span and a log with the
    /// same id in one trace are about the same call.
    pub call_id: String,
}
