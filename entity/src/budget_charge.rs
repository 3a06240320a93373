//! The table `runtrail_budget_charges`. Triggers derive its rows from the reservations; nothing
//! else writes them.

use sea_orm::entity::prelude::*;

/// What a reservation holds of a budget.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[sea_orm(table_name = "runtrail_budget_charges")]
pub struct Model {
    /// The reservation.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub reservation_id: String,
    /// The name of the budget.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub budget: String,
    /// The slot of the budget that counts it.
    pub slot_start: i64,
    /// The amount, in the unit of the budget; 0 once a sweep has released it.
    pub amount: i64,
}

impl ActiveModelBehavior for ActiveModel {}
