//! The table `runtrail_budgets`.

use sea_orm::entity::prelude::*;

/// A budget.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[sea_orm(table_name = "runtrail_budgets")]
pub struct Model {
    /// Its name.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub name: String,
    /// What it limits: `tokens` or `micros`, millionths of a US dollar.
    #[sea_orm(column_type = "Text")]
    pub unit: String,
    /// The limit in that unit.
    pub amount_limit: i64,
    /// What it applies to: `everything`, `caller`, `skill` or `channel`.
    #[sea_orm(column_type = "Text")]
    pub scope: String,
    /// The caller, skill or channel; empty for `everything`.
    #[sea_orm(column_type = "Text")]
    pub scope_id: String,
    /// When it renews: `day`, `month` or `window`.
    #[sea_orm(column_type = "Text")]
    pub period: String,
    /// The length of the window, or the offset of the day or month from UTC, in microseconds.
    pub period_micros: i64,
}

impl ActiveModelBehavior for ActiveModel {}
