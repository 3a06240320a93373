use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{RunStats, RunStatus, rfc3339, rules};

/// One execution of a skill, agent or job.
///
/// A run is *running* as long as it has no [`finished_at`](Self::finished_at), whatever its status.
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
    /// Time-ordered ids (UUIDv7, ULID) are stored faster than random ones; see
    /// [`new_run_id`](crate::new_run_id).
    pub id: String,
    /// The skill, agent or job that ran; at most 255 bytes, may be empty.
    pub skill_id: String,
    /// The user or program that the run was for; at most 255 bytes, may be empty.
    pub caller_id: String,
    /// The channel that the request came through; at most 255 bytes, may be empty.
    pub channel_id: String,
    /// The run that spawned this one; `None` for a top-level run.
    ///
    /// The parent need not be stored: a child may be recorded first.
    pub parent_run_id: Option<String>,
    /// The arguments of the run, nested at most 64 levels deep; [`Limits`](crate::Limits) bounds
    /// the size of their JSON text.
    pub inputs: Map<String, Value>,
    /// When the run started, in whole microseconds.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub started_at: DateTime<Utc>,
    /// When the run finished, in whole microseconds; `None` while it is running.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    pub finished_at: Option<DateTime<Utc>>,
    /// The current status, or the final one of a finished run.
    pub status: RunStatus,
    /// The result as text; [`Limits`](crate::Limits) bounds its size. A NUL character is replaced
    /// by U+FFFD.
    pub output: String,
    /// The error message; [`Limits`](crate::Limits) bounds its size. A NUL character is replaced by
    /// U+FFFD.
    pub error: String,
    /// The number of tool calls; like every count, at most [`i64::MAX`].
    pub tool_calls: u64,
    /// The duration in seconds; finite and not negative.
    pub runtime_seconds: f64,
    /// The number of input tokens.
    pub total_input_tokens: u64,
    /// The number of output tokens.
    pub total_output_tokens: u64,
    /// The number of tokens spent on reasoning.
    pub total_thinking_tokens: u64,
    /// The [`Owner`](crate::Owner) that the run belongs to, if any. A store that has an owner sets
    /// it at the start; any other store keeps the given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// Labels, by which [`RunQuery`](crate::RunQuery) finds runs; at most 32.
    ///
    /// A key has 1 to 64 ASCII letters, digits or characters of `_.:/-`. A value has at most 255
    /// bytes, without NUL; it may be empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl SkillRun {
    /// Creates a running top-level run without inputs; all other fields are empty or zero.
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
            owner_id: None,
            labels: BTreeMap::new(),
        }
    }

    /// Sets [`caller_id`](Self::caller_id).
    #[must_use]
    pub fn caller(mut self, caller_id: impl Into<String>) -> Self {
        self.caller_id = caller_id.into();
        self
    }

    /// Sets [`channel_id`](Self::channel_id).
    #[must_use]
    pub fn channel(mut self, channel_id: impl Into<String>) -> Self {
        self.channel_id = channel_id.into();
        self
    }

    /// Sets the run that spawned this one.
    #[must_use]
    pub fn parent(mut self, run_id: impl Into<String>) -> Self {
        self.parent_run_id = Some(run_id.into());
        self
    }

    /// Sets [`owner_id`](Self::owner_id), for a store without an owner.
    #[must_use]
    pub fn owner(mut self, owner_id: impl Into<String>) -> Self {
        self.owner_id = Some(owner_id.into());
        self
    }

    /// Sets a [label](Self::labels); replaces an earlier one with the same key.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Replaces all arguments of the run.
    #[must_use]
    pub fn inputs(mut self, inputs: Map<String, Value>) -> Self {
        self.inputs = inputs;
        self
    }

    /// Sets one argument of the run; replaces an earlier one with the same name.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.inputs.insert(name.into(), value.into());
        self
    }

    /// Sets the initial status, for a run such as a dry run that doesn't start as
    /// [`RunStatus::RUNNING`].
    #[must_use]
    pub fn status(mut self, status: impl Into<RunStatus>) -> Self {
        self.status = status.into();
        self
    }

    /// Sets the outcome and its time, for a run that is recorded after it has finished. The time
    /// replaces that of `stats`.
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
            finished_at: _,
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

    /// Returns whether the run has no [`finished_at`](Self::finished_at).
    pub fn is_running(&self) -> bool {
        self.finished_at.is_none()
    }

    /// Returns whether both runs have the same start: skill, caller, channel, parent, inputs, and
    /// `started_at` in whole microseconds.
    pub fn is_same_start(&self, other: &Self) -> bool {
        self.skill_id == other.skill_id
            && self.caller_id == other.caller_id
            && self.channel_id == other.channel_id
            && self.parent_run_id == other.parent_run_id
            && self.inputs == other.inputs
            && rules::micros(self.started_at) == rules::micros(other.started_at)
    }

    /// Returns the outcome fields, as arguments for
    /// [`Storage::finish_run`](crate::Storage::finish_run), without a finish time.
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
            finished_at: None,
        }
    }
}
