//! The table `skill_run_logs`: one row per event.

use sea_orm::entity::prelude::*;

/// A stored event.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[sea_orm(table_name = "skill_run_logs")]
pub struct Model {
    /// The run it belongs to.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub run_id: String,
    /// Its position within the run.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    /// When it happened, in microseconds since the epoch.
    pub created_at: i64,
    /// The type of event.
    #[sea_orm(column_type = "Text")]
    pub event_type: String,
    /// What happened: the text of a JSON value.
    #[sea_orm(column_type = "Text")]
    pub payload: String,
    /// How long the call of a model or a tool took, in microseconds.
    pub duration_micros: Option<i64>,
    /// Who ran the model.
    #[sea_orm(column_type = "Text", nullable)]
    pub provider: Option<String>,
    /// The model that answered.
    #[sea_orm(column_type = "Text", nullable)]
    pub model: Option<String>,
    /// All input tokens.
    pub input_tokens: Option<i64>,
    /// The input tokens that were read from a cache.
    pub cache_read_tokens: Option<i64>,
    /// The input tokens that were written to a cache.
    pub cache_write_tokens: Option<i64>,
    /// All output tokens.
    pub output_tokens: Option<i64>,
    /// The output tokens that were spent on reasoning.
    pub thinking_tokens: Option<i64>,
    /// The reported cost in millionths of a US dollar.
    pub cost_micros: Option<i64>,
    /// Its run.
    #[sea_orm(belongs_to, from = "run_id", to = "id", on_delete = "Cascade")]
    pub run: BelongsTo<super::skill_run::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
