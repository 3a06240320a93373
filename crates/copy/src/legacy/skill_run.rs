//! The legacy table of runs. These are its declared types; a stored value may have any type.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "skill_runs")]
pub(super) struct Model {
    #[sea_orm(primary_key)]
    pub(super) rowid: i64,
    pub(super) id: String,
    pub(super) skill_id: String,
    pub(super) caller_id: String,
    pub(super) channel_id: String,
    /// Empty if the run has no parent.
    pub(super) parent_run_id: String,
    pub(super) inputs: String,
    pub(super) started_at: i64,
    /// 0 if the run has not finished.
    pub(super) finished_at: i64,
    pub(super) status: String,
    pub(super) output: String,
    pub(super) error: String,
    pub(super) tool_calls: i64,
    pub(super) runtime_seconds: f64,
    pub(super) total_input_tokens: i64,
    pub(super) total_output_tokens: i64,
    pub(super) total_thinking_tokens: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(super) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
