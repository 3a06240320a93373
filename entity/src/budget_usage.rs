//! The table `runtrail_budget_usage`. Triggers derive its rows from the reservations, and a copy
//! takes them over from another history; nothing else writes them.

use sea_orm::entity::prelude::*;

/// What a budget has counted in a slot of time.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[sea_orm(table_name = "runtrail_budget_usage")]
pub struct Model {
    /// The name of the budget.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub budget: String,
    /// When the slot begins, in microseconds since the epoch. It is a day, a month, or a part of a
    /// window.
    #[sea_orm(primary_key, auto_increment = false)]
    pub slot_start: i64,
    /// The amounts of the settled reservations.
    pub used: i64,
    /// The amounts of the open reservations.
    pub reserved: i64,
}

impl ActiveModelBehavior for ActiveModel {}
