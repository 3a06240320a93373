//! SeaORM on Runtrail's schema, in two styles: as SeaORM's documentation shows first, and with
//! faster settings.

use std::path::Path;

use anyhow::{Context, Result};
use async_trait::async_trait;
use runtrail_audit::{RunStats, SkillRun, SkillRunLog};
use runtrail_entity::{skill_run, skill_run_log};
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectOptions, Database, DatabaseConnection, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set,
};

use crate::by_hand::{object, time};
use crate::recorder::Recorder;

/// How SeaORM is configured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Style {
    /// The defaults: rollback journal, a ping before each statement, `RETURNING`.
    Straightforward,
    /// Write-ahead log, no ping, no statement logging, no `RETURNING`.
    Tuned,
}

pub(crate) struct Orm {
    pub(crate) db: DatabaseConnection,
    style: Style,
}

impl Orm {
    pub(crate) async fn open(file: &Path, style: Style) -> Result<Self> {
        Self::connect(&format!("sqlite://{}", file.display()), style).await
    }

    pub(crate) async fn connect(url: &str, style: Style) -> Result<Self> {
        let mut options = ConnectOptions::new(url);
        if style == Style::Tuned {
            options
                .test_before_acquire(false)
                .sqlx_logging(false)
                .record_stmt_in_spans(false)
                .map_sqlx_sqlite_opts(|options| {
                    options
                        .journal_mode(SqliteJournalMode::Wal)
                        .synchronous(SqliteSynchronous::Full)
                });
        }
        let db = Database::connect(options).await?;
        Ok(Self { db, style })
    }

    pub(crate) async fn get_run(&self, id: &str) -> Result<SkillRun> {
        let row = skill_run::Entity::find_by_id(id).one(&self.db).await?;
        row.map(run).context("no such run")
    }

    pub(crate) async fn list_by_skill(&self, skill_id: &str, limit: u64) -> Result<Vec<SkillRun>> {
        let rows = skill_run::Entity::find()
            .filter(skill_run::COLUMN.skill_id.eq(skill_id))
            .filter(skill_run::Column::Status.ne("dry_run"))
            .order_by_desc(skill_run::Column::StartedAt)
            .order_by_desc(skill_run::Column::Id)
            .limit(limit)
            .all(&self.db)
            .await?;
        Ok(rows.into_iter().map(run).collect())
    }

    /// Runs one query per ancestor.
    pub(crate) async fn chain(&self, id: &str) -> Result<Vec<SkillRun>> {
        let mut chain = vec![self.get_run(id).await?];
        while let Some(parent) = chain.last().and_then(|run| run.parent_run_id.clone()) {
            chain.push(self.get_run(&parent).await?);
        }
        Ok(chain)
    }
}

fn run(row: skill_run::Model) -> SkillRun {
    let mut run = SkillRun::new(row.id, row.skill_id, time(row.started_at));
    run.caller_id = row.caller_id;
    run.channel_id = row.channel_id;
    run.parent_run_id = row.parent_run_id;
    run.finished_at = row.finished_at.map(time);
    run.status = row.status.into();
    run.tool_calls = row.tool_calls.unsigned_abs();
    run.runtime_seconds = row.runtime_seconds;
    run.total_input_tokens = row.total_input_tokens.unsigned_abs();
    run.total_output_tokens = row.total_output_tokens.unsigned_abs();
    run.total_thinking_tokens = row.total_thinking_tokens.unsigned_abs();
    run.inputs = object(&row.inputs);
    run.output = row.output;
    run.error = row.error;
    run
}

#[async_trait]
#[expect(
    clippy::disallowed_methods,
    reason = "measures the cost of these methods"
)]
impl Recorder for Orm {
    async fn start(&self, _: usize, run: &SkillRun) -> Result<()> {
        let row = skill_run::Model {
            id: run.id.clone(),
            skill_id: run.skill_id.clone(),
            caller_id: run.caller_id.clone(),
            channel_id: run.channel_id.clone(),
            parent_run_id: run.parent_run_id.clone(),
            started_at: run.started_at.timestamp_micros(),
            finished_at: None,
            status: run.status.to_string(),
            tool_calls: 0,
            runtime_seconds: 0.0,
            total_input_tokens: 0,
            total_output_tokens: 0,
            total_thinking_tokens: 0,
            inputs: serde_json::to_string(&run.inputs)?,
            output: String::new(),
            error: String::new(),
            owner_id: None,
            labels: None,
        };
        let row = row.into_active_model();
        match self.style {
            Style::Straightforward => drop(row.insert(&self.db).await?),
            Style::Tuned => {
                skill_run::Entity::insert(row)
                    .exec_without_returning(&self.db)
                    .await?;
            }
        }
        Ok(())
    }

    async fn append(&self, _: usize, event: &SkillRunLog) -> Result<()> {
        let row = skill_run_log::ActiveModel {
            run_id: Set(event.run_id.clone()),
            sequence: Set(event.sequence as i64),
            created_at: Set(event.created_at.unwrap_or_default().timestamp_micros()),
            event_type: Set(event.event_type.clone()),
            payload: Set(serde_json::to_string(&event.payload)?),
            ..Default::default()
        };
        match self.style {
            Style::Straightforward => drop(row.insert(&self.db).await?),
            Style::Tuned => {
                skill_run_log::Entity::insert(row)
                    .exec_without_returning(&self.db)
                    .await?;
            }
        }
        Ok(())
    }

    async fn finish(&self, _: usize, run_id: &str, stats: &RunStats) -> Result<()> {
        let outcome = skill_run::ActiveModel {
            finished_at: Set(Some(crate::clock::now().timestamp_micros())),
            status: Set(stats.status.to_string()),
            output: Set(stats.output.clone()),
            error: Set(stats.error.clone()),
            tool_calls: Set(stats.tool_calls as i64),
            runtime_seconds: Set(stats.runtime_seconds),
            total_input_tokens: Set(stats.input_tokens as i64),
            total_output_tokens: Set(stats.output_tokens as i64),
            total_thinking_tokens: Set(stats.thinking_tokens as i64),
            ..Default::default()
        };
        skill_run::Entity::update_many()
            .set(outcome)
            .filter(skill_run::COLUMN.id.eq(run_id))
            .exec(&self.db)
            .await?;
        Ok(())
    }
}
