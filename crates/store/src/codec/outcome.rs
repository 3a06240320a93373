use runtrail_audit::{Limits, Result, RunStats, rules};
use runtrail_db::backend;
use runtrail_entity::skill_run::{ActiveModel, Column, Entity, Model};
use sea_orm::Set;
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use serde::Serialize;

/// The columns that describe the outcome of a run.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) status: String,
    pub(crate) output: String,
    pub(crate) error: String,
    pub(crate) tool_calls: i64,
    /// `None` if the caller didn't report it: the database then computes the time from start to
    /// finish.
    #[serde(serialize_with = "backend::serialize_fraction_if_any")]
    pub(crate) runtime_seconds: Option<f64>,
    pub(crate) total_input_tokens: i64,
    pub(crate) total_output_tokens: i64,
    pub(crate) total_thinking_tokens: i64,
}

const MICROS_PER_SECOND: f64 = 1_000_000.0;

impl Outcome {
    /// The columns that finishing a run sets: its outcome and its finish time.
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

    /// Encodes the outcome of a run that finishes now; a runtime of 0 counts as not reported.
    pub(crate) fn encode_finished(stats: &RunStats, limits: &Limits) -> Result<Self> {
        rules::outcome("status", &stats.status)?;
        let outcome = Self::encode(stats, limits)?;
        Ok(Self {
            runtime_seconds: outcome.runtime_seconds.filter(|seconds| *seconds > 0.0),
            ..outcome
        })
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
            ..
        } = stats;
        Ok(Self {
            status: rules::identifier("status", status.as_str())?.to_owned(),
            output: rules::free_text("output", output, limits)?.into_owned(),
            error: rules::free_text("error", error, limits)?.into_owned(),
            tool_calls: rules::count("tool_calls", *tool_calls)?,
            runtime_seconds: Some(rules::seconds("runtime_seconds", *runtime_seconds)?),
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
            runtime_seconds: Some(row.runtime_seconds),
            total_input_tokens: row.total_input_tokens,
            total_output_tokens: row.total_output_tokens,
            total_thinking_tokens: row.total_thinking_tokens,
        }
    }

    /// Whether the finished run in `row` has this outcome.
    pub(crate) fn is_outcome_of(&self, row: &Model) -> bool {
        let mut stored = Self::of_row(row);
        let is_measured = |finished_at: i64| {
            let micros = Ord::max(finished_at.saturating_sub(row.started_at), 0);
            row.runtime_seconds == 0.0 || row.runtime_seconds == micros as f64 / MICROS_PER_SECOND
        };
        if self.runtime_seconds.is_none() && row.finished_at.is_some_and(is_measured) {
            stored.runtime_seconds = None;
        }
        *self == stored
    }

    /// The runtime of a run: `given`, or if `given` is null, the time from its start to
    /// `finished_at`.
    pub(crate) fn runtime(given: Expr, finished_at: Expr) -> Expr {
        let started_at = Expr::col((Entity, Column::StartedAt));
        let micros = finished_at.clone().sub(started_at.clone());
        let seconds = micros
            .cast_as("double precision")
            .div(Expr::Constant(MICROS_PER_SECOND.into()));
        let measured =
            Expr::case(started_at.lt(finished_at), seconds).finally(Expr::Constant(0.0.into()));
        Func::coalesce([given, measured.into()]).into()
    }

    /// The new values of a run that is finished, except for its runtime.
    pub(crate) fn finished_columns(&self, finished_at: i64) -> ActiveModel {
        ActiveModel {
            finished_at: Set(Some(finished_at)),
            status: Set(self.status.clone()),
            output: Set(self.output.clone()),
            error: Set(self.error.clone()),
            tool_calls: Set(self.tool_calls),
            total_input_tokens: Set(self.total_input_tokens),
            total_output_tokens: Set(self.total_output_tokens),
            total_thinking_tokens: Set(self.total_thinking_tokens),
            ..ActiveModel::default()
        }
    }
}
