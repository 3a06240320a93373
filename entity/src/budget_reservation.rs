//! The table `runtrail_budget_reservations`.

use sea_orm::entity::prelude::*;

/// A reservation.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[sea_orm(table_name = "runtrail_budget_reservations")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    /// The owner, whose death releases it.
    #[sea_orm(column_type = "Text", nullable)]
    pub owner_id: Option<String>,
    /// The run that it is for.
    #[sea_orm(column_type = "Text", nullable)]
    pub run_id: Option<String>,
    /// For whom the work is done.
    #[sea_orm(column_type = "Text")]
    pub caller_id: String,
    /// What does the work.
    #[sea_orm(column_type = "Text")]
    pub skill_id: String,
    /// Where the request came from.
    #[sea_orm(column_type = "Text")]
    pub channel_id: String,
    /// The reserved tokens.
    pub tokens: i64,
    /// The reserved money, in millionths of a US dollar.
    pub cost_micros: i64,
    /// When it was made, in microseconds since the epoch.
    pub reserved_at: i64,
    /// When it was first settled or released; NULL while it is open.
    pub closed_at: Option<i64>,
    /// The tokens that were used; NULL until it is settled.
    pub actual_tokens: Option<i64>,
    /// The money that was used; NULL until it is settled.
    pub actual_cost_micros: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
