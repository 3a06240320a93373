use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{RunStats, RunStatus, rfc3339, rules};

/// One execution of a skill, agent or job.
///
/// A run is *running* while it has no [`finished_at`](Self::finished_at), whatever its status says.
///
/// ```
/// use chrono::Utc;
/// use runtrail_audit::SkillRun;
/// use serde_json::json;
///
/// let run = SkillRun::new("run-1", "summarise", Utc::now())
///     .caller("alice")
///     .parent("run-0")
///     .input("topic", json!("tides"));
/// assert!(run.is_running());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkillRun {
    /// Chosen by the host, unique in the history; 1 to 255 bytes.
    ///
    /// Time-ordered ids (UUIDv7, ULID) are stored faster than random ones.
    pub id: String,
    /// What ran; at most 255 bytes, may be empty.
    pub skill_id: String,
    /// For whom it ran; at most 255 bytes, may be empty.
    pub caller_id: String,
    /// Where it was asked for; at most 255 bytes, may be empty.
    pub channel_id: String,
    /// The run that spawned this one; `None` for a top-level run.
    ///
    /// The parent need not be stored: a child may be recorded first.
    pub parent_run_id: Option<String>,
    /// The arguments of the run: at most [`Limits`](crate::Limits) as JSON text, at most 64 levels deep.
    pub inputs: Map<String, Value>,
    /// When it started; kept to the microsecond.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub started_at: DateTime<Utc>,
    /// When it finished, kept to the microsecond; `None` while it runs.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    pub finished_at: Option<DateTime<Utc>>,
    /// How it stands, or how it ended.
    pub status: RunStatus,
    /// What it produced: at most [`Limits`](crate::Limits); a NUL character becomes U+FFFD.
    pub output: String,
    /// What went wrong: at most [`Limits`](crate::Limits); a NUL character becomes U+FFFD.
    pub error: String,
    /// How many tools it called; like all counts at most [`i64::MAX`].
    pub tool_calls: u64,
    /// How long it took, in seconds; finite and not negative.
    pub runtime_seconds: f64,
    /// Tokens it read.
    pub total_input_tokens: u64,
    /// Tokens it wrote.
    pub total_output_tokens: u64,
    /// Tokens it spent on thinking.
    pub total_thinking_tokens: u64,
}

impl SkillRun {
    /// A top-level run that has just started: no inputs, no outcome, everything else empty.
    pub fn new(
        id: impl Into<String>,
        skill_id: impl Into<String>,
        started_at: DateTime<Utc>,
    ) -> Self {
        Self {
            id: id.into(),
            skill_id: skill_id.into(),
            caller_id: String::new(),
            channel_id: String::new(),
            parent_run_id: None,
            inputs: Map::new(),
            started_at,
            finished_at: None,
            status: RunStatus::RUNNING,
            output: String::new(),
            error: String::new(),
            tool_calls: 0,
            runtime_seconds: 0.0,
            total_input_tokens: 0,
            total_output_tokens: 0,
            total_thinking_tokens: 0,
        }
    }

    /// For whom it runs.
    #[must_use]
    pub fn caller(mut self, caller_id: impl Into<String>) -> Self {
        self.caller_id = caller_id.into();
        self
    }

    /// Where it was asked for.
    #[must_use]
    pub fn channel(mut self, channel_id: impl Into<String>) -> Self {
        self.channel_id = channel_id.into();
        self
    }

    /// The run that spawned this one.
    #[must_use]
    pub fn parent(mut self, run_id: impl Into<String>) -> Self {
        self.parent_run_id = Some(run_id.into());
        self
    }

    /// All arguments of the run, in place of any that were set before.
    #[must_use]
    pub fn inputs(mut self, inputs: Map<String, Value>) -> Self {
        self.inputs = inputs;
        self
    }

    /// One argument of the run; it replaces an earlier one with this name.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.inputs.insert(name.into(), value.into());
        self
    }

    /// The status, for a run that begins with another than [`RunStatus::RUNNING`], such as a dry run.
    #[must_use]
    pub fn status(mut self, status: impl Into<RunStatus>) -> Self {
        self.status = status.into();
        self
    }

    /// The outcome and its time, for a run that is recorded after it has finished.
    #[must_use]
    pub fn finished(self, finished_at: DateTime<Utc>, stats: RunStats) -> Self {
        let RunStats {
            status,
            output,
            error,
            tool_calls,
            runtime_seconds,
            input_tokens,
            output_tokens,
            thinking_tokens,
        } = stats;
        Self {
            finished_at: Some(finished_at),
            status,
            output,
            error,
            tool_calls,
            runtime_seconds,
            total_input_tokens: input_tokens,
            total_output_tokens: output_tokens,
            total_thinking_tokens: thinking_tokens,
            ..self
        }
    }

    /// Whether the run has not finished yet.
    pub fn is_running(&self) -> bool {
        self.finished_at.is_none()
    }

    /// Whether both tell of the same start, as far as it is stored: times to the microsecond.
    pub fn is_same_start(&self, other: &Self) -> bool {
        self.skill_id == other.skill_id
            && self.caller_id == other.caller_id
            && self.channel_id == other.channel_id
            && self.parent_run_id == other.parent_run_id
            && self.inputs == other.inputs
            && rules::micros(self.started_at) == rules::micros(other.started_at)
    }

    /// The outcome fields of this run, as [`Storage::finish_run`](crate::Storage::finish_run) takes them.
    pub fn stats(&self) -> RunStats {
        RunStats {
            status: self.status.clone(),
            output: self.output.clone(),
            error: self.error.clone(),
            tool_calls: self.tool_calls,
            runtime_seconds: self.runtime_seconds,
            input_tokens: self.total_input_tokens,
            output_tokens: self.total_output_tokens,
            thinking_tokens: self.total_thinking_tokens,
        }
    }
}
