use runtrail_audit::{Limits, Result, RunStats, rules};
use runtrail_entity::skill_run::{ActiveModel, Column, Model};
use sea_orm::Set;
use serde::Serialize;

use crate::backend;

/// The columns that say how a run ended.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) status: String,
    pub(crate) output: String,
    pub(crate) error: String,
    pub(crate) tool_calls: i64,
    #[serde(serialize_with = "backend::serialize_fraction")]
    pub(crate) runtime_seconds: f64,
    pub(crate) total_input_tokens: i64,
    pub(crate) total_output_tokens: i64,
    pub(crate) total_thinking_tokens: i64,
}

impl Outcome {
    /// What finishing a run sets: its outcome, and the time.
    pub(crate) const COLUMNS: [Column; 9] = [
        Column::FinishedAt,
        Column::Status,
        Column::Output,
        Column::Error,
        Column::ToolCalls,
        Column::RuntimeSeconds,
        Column::TotalInputTokens,
        Column::TotalOutputTokens,
        Column::TotalThinkingTokens,
    ];

    /// The outcome of a run that is finished.
    pub(crate) fn encode_finished(stats: &RunStats, limits: &Limits) -> Result<Self> {
        rules::outcome("status", &stats.status)?;
        Self::encode(stats, limits)
    }

    pub(crate) fn encode(stats: &RunStats, limits: &Limits) -> Result<Self> {
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
        Ok(Self {
            status: rules::identifier("status", status.as_str())?.to_owned(),
            output: rules::free_text("output", output, limits)?.into_owned(),
            error: rules::free_text("error", error, limits)?.into_owned(),
            tool_calls: rules::count("tool_calls", *tool_calls)?,
            runtime_seconds: rules::seconds("runtime_seconds", *runtime_seconds)?,
            total_input_tokens: rules::count("input_tokens", *input_tokens)?,
            total_output_tokens: rules::count("output_tokens", *output_tokens)?,
            total_thinking_tokens: rules::count("thinking_tokens", *thinking_tokens)?,
        })
    }

    pub(crate) fn of_row(row: &Model) -> Self {
        Self {
            status: row.status.clone(),
            output: row.output.clone(),
            error: row.error.clone(),
            tool_calls: row.tool_calls,
            runtime_seconds: row.runtime_seconds,
            total_input_tokens: row.total_input_tokens,
            total_output_tokens: row.total_output_tokens,
            total_thinking_tokens: row.total_thinking_tokens,
        }
    }

    /// The change that finishes a run.
    pub(crate) fn finish(&self, finished_at: i64) -> ActiveModel {
        ActiveModel {
            finished_at: Set(Some(finished_at)),
            status: Set(self.status.clone()),
            output: Set(self.output.clone()),
            error: Set(self.error.clone()),
            tool_calls: Set(self.tool_calls),
            runtime_seconds: Set(self.runtime_seconds),
            total_input_tokens: Set(self.total_input_tokens),
            total_output_tokens: Set(self.total_output_tokens),
            total_thinking_tokens: Set(self.total_thinking_tokens),
            ..ActiveModel::default()
        }
    }
}
