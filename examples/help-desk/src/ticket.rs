//! The application's own table: the questions, and the runs that answered them.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tickets")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub run_id: String,
    #[sea_orm(column_type = "Text")]
    pub question: String,
    #[sea_orm(belongs_to, from = "run_id", to = "id")]
    pub run: BelongsTo<runtrail::entity::skill_run::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
