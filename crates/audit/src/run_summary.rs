use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{RunStatus, SkillRun, rfc3339};

/// A run without its long texts, the inputs, the output and the error: what it takes to show many at once.
///
/// The fields are those of [`SkillRun`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is the field of `SkillRun` with the same name"
)]
pub struct RunSummary {
    pub id: String,
    pub skill_id: String,
    pub caller_id: String,
    pub channel_id: String,
    pub parent_run_id: Option<String>,
    #[serde(serialize_with = "rfc3339::serialize")]
    pub started_at: DateTime<Utc>,
    #[serde(serialize_with = "rfc3339::serialize_option")]
    pub finished_at: Option<DateTime<Utc>>,
    pub status: RunStatus,
    pub tool_calls: u64,
    pub runtime_seconds: f64,
    pub total_input_tokens: u64,
    pub total_output_tokens: u64,
    pub total_thinking_tokens: u64,
}

impl From<SkillRun> for RunSummary {
    fn from(run: SkillRun) -> Self {
        Self {
            id: run.id,
            skill_id: run.skill_id,
            caller_id: run.caller_id,
            channel_id: run.channel_id,
            parent_run_id: run.parent_run_id,
            started_at: run.started_at,
            finished_at: run.finished_at,
            status: run.status,
            tool_calls: run.tool_calls,
            runtime_seconds: run.runtime_seconds,
            total_input_tokens: run.total_input_tokens,
            total_output_tokens: run.total_output_tokens,
            total_thinking_tokens: run.total_thinking_tokens,
        }
    }
}
