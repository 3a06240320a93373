//! The table `runtrail_staged_records`: telemetry that was received, and doesn't belong to a run yet.

use sea_orm::entity::prelude::*;

/// A record of telemetry.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[sea_orm(table_name = "runtrail_staged_records")]
pub struct Model {
    /// What it belongs together with, such as the id of a trace.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub group_id: String,
    /// Its id within the group.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    /// The id of the record above it.
    #[sea_orm(column_type = "Text", nullable)]
    pub parent_id: Option<String>,
    /// What it is, in the words of the receiver.
    #[sea_orm(column_type = "Text")]
    pub kind: String,
    /// When it began, in microseconds since the epoch.
    pub started_at: i64,
    /// When it was received, in microseconds since the epoch.
    pub received_at: i64,
    /// The run in which it is stored; NULL while it waits.
    #[sea_orm(column_type = "Text", nullable)]
    pub run_id: Option<String>,
    /// What was received, as JSON; NULL once it is stored in a run.
    #[sea_orm(column_type = "Text", nullable)]
    pub content: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
