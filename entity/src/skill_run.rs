//! The table `skill_runs`: one row per run.

use sea_orm::entity::prelude::*;

/// A stored run.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[sea_orm(table_name = "skill_runs")]
pub struct Model {
    /// Chosen by the host.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    /// The skill that ran.
    #[sea_orm(column_type = "Text")]
    pub skill_id: String,
    /// The caller on whose behalf it ran.
    #[sea_orm(column_type = "Text")]
    pub caller_id: String,
    /// The channel through which it was requested.
    #[sea_orm(column_type = "Text")]
    pub channel_id: String,
    /// The run that spawned this one; that run need not be stored.
    #[sea_orm(column_type = "Text", nullable)]
    pub parent_run_id: Option<String>,
    /// When it started, in microseconds since the epoch.
    pub started_at: i64,
    /// When it finished, in microseconds since the epoch; `None` while it runs.
    pub finished_at: Option<i64>,
    /// Its current status, or how it ended.
    #[sea_orm(column_type = "Text")]
    pub status: String,
    /// The number of tool calls.
    pub tool_calls: i64,
    /// How long it took, in seconds.
    pub runtime_seconds: f64,
    /// Tokens it read.
    pub total_input_tokens: i64,
    /// Tokens it wrote.
    pub total_output_tokens: i64,
    /// Tokens it spent on thinking.
    pub total_thinking_tokens: i64,
    /// Its arguments: the text of a JSON object.
    #[sea_orm(column_type = "Text")]
    pub inputs: String,
    /// Its output.
    #[sea_orm(column_type = "Text")]
    pub output: String,
    /// What went wrong; empty if nothing did.
    #[sea_orm(column_type = "Text")]
    pub error: String,
    /// The [owner](super::owner) that it belongs to.
    #[sea_orm(column_type = "Text", nullable)]
    pub owner_id: Option<String>,
    /// Its labels: the text of a JSON object, or `None` if it has none.
    #[sea_orm(column_type = "Text", nullable)]
    pub labels: Option<String>,
    /// Its events.
    #[sea_orm(has_many)]
    pub logs: HasMany<super::skill_run_log::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
