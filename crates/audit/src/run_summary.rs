use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{RunStatus, SkillRun, rfc3339};

/// A run without its inputs, output, error, owner and labels, for lists of many runs.
///
/// The fields are those of [`SkillRun`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use]
pub struct RunSummary {
    /// Chosen by the host, unique in the history.
    pub id: String,
    /// The skill, agent or job that ran.
    pub skill_id: String,
    /// The user or program that the run was for.
    pub caller_id: String,
    /// The channel that the request came through.
    pub channel_id: String,
    /// The run that spawned this one; `None` for a top-level run.
    pub parent_run_id: Option<String>,
    /// When the run started.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub started_at: DateTime<Utc>,
    /// When the run finished; `None` while it is running.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    pub finished_at: Option<DateTime<Utc>>,
    /// The current status, or the final one of a finished run.
    pub status: RunStatus,
    /// The number of tool calls.
    pub tool_calls: u64,
    /// The duration in seconds.
    pub runtime_seconds: f64,
    /// The number of input tokens.
    pub total_input_tokens: u64,
    /// The number of output tokens.
    pub total_output_tokens: u64,
    /// The number of tokens spent on reasoning.
    pub total_thinking_tokens: u64,
}

impl RunSummary {
    /// Creates a running top-level run, like [`SkillRun::new`].
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
            started_at,
            finished_at: None,
            status: RunStatus::RUNNING,
            tool_calls: 0,
            runtime_seconds: 0.0,
            total_input_tokens: 0,
            total_output_tokens: 0,
            total_thinking_tokens: 0,
        }
    }

    /// Returns the run with these texts, without an owner.
    pub fn with_texts(self, inputs: Map<String, Value>, output: String, error: String) -> SkillRun {
        let Self {
            id,
            skill_id,
            caller_id,
            channel_id,
            parent_run_id,
            started_at,
            finished_at,
            status,
            tool_calls,
            runtime_seconds,
            total_input_tokens,
            total_output_tokens,
            total_thinking_tokens,
        } = self;
        SkillRun {
            id,
            skill_id,
            caller_id,
            channel_id,
            parent_run_id,
            inputs,
            started_at,
            finished_at,
            status,
            output,
            error,
            tool_calls,
            runtime_seconds,
            total_input_tokens,
            total_output_tokens,
            total_thinking_tokens,
            owner_id: None,
            labels: BTreeMap::new(),
        }
    }

    /// Returns how many seconds the run took, or has been running at this time.
    ///
    /// A host need not report the duration. Without one, it is the time between start and finish.
    pub fn elapsed_seconds(&self, now: DateTime<Utc>) -> f64 {
        match self.finished_at {
            Some(_) if self.runtime_seconds > 0.0 => self.runtime_seconds,
            finished_at => {
                let length = finished_at.unwrap_or(now) - self.started_at;
                length.as_seconds_f64().max(0.0)
            }
        }
    }

    /// Returns the sum of input, output and thinking tokens; saturates at [`u64::MAX`].
    pub fn total_tokens(&self) -> u64 {
        self.total_input_tokens
            .saturating_add(self.total_output_tokens)
            .saturating_add(self.total_thinking_tokens)
    }
}

impl From<&SkillRun> for RunSummary {
    fn from(run: &SkillRun) -> Self {
        Self {
            id: run.id.clone(),
            skill_id: run.skill_id.clone(),
            caller_id: run.caller_id.clone(),
            channel_id: run.channel_id.clone(),
            parent_run_id: run.parent_run_id.clone(),
            started_at: run.started_at,
            finished_at: run.finished_at,
            status: run.status.clone(),
            tool_calls: run.tool_calls,
            runtime_seconds: run.runtime_seconds,
            total_input_tokens: run.total_input_tokens,
            total_output_tokens: run.total_output_tokens,
            total_thinking_tokens: run.total_thinking_tokens,
        }
    }
}
