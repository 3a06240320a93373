//! The table `runtrail_owners`: one row per process that owns runs.

use sea_orm::entity::prelude::*;

/// A stored owner.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[sea_orm(table_name = "runtrail_owners")]
pub struct Model {
    /// Chosen by the host.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    /// Describes the process.
    #[sea_orm(column_type = "Text")]
    pub label: String,
    /// How long it stays alive after a heartbeat, in microseconds.
    pub lease_micros: i64,
    /// The time of its last heartbeat, in microseconds since the epoch.
    pub last_seen_at: i64,
}

impl ActiveModelBehavior for ActiveModel {}
