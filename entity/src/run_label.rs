//! The table `runtrail_run_labels`, an index of the labels of runs. Triggers derive its rows from
//! the column `labels` of `skill_runs`; nothing else writes them.

use sea_orm::entity::prelude::*;

/// A label of a run.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[sea_orm(table_name = "runtrail_run_labels")]
pub struct Model {
    /// The key of the label.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub key: String,
    /// Its value.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub value: String,
    /// When the run started, in microseconds since the epoch.
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_started_at: i64,
    /// The run.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub run_id: String,
}

impl ActiveModelBehavior for ActiveModel {}
