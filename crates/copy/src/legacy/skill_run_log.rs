//! The legacy table of events.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "skill_run_logs")]
pub(super) struct Model {
    #[sea_orm(primary_key)]
    pub(super) rowid: i64,
    pub(super) run_id: String,
    pub(super) seq: i64,
    pub(super) event_type: String,
    pub(super) payload: String,
    pub(super) created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(super) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
