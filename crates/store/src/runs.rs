//! Writing one run, and reading it.

use runtrail_audit::{Error, Result, RunStats, SkillRun, rules};
use runtrail_entity::skill_run::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, LockType, OnConflict, SelectStatement};
use sea_orm::{EntityTrait, IntoActiveModel, QueryFilter, QueryTrait};

use crate::codec::{self, Outcome};
use crate::connection::Connection;
use crate::session::Session;
use crate::settings::Settings;

pub(crate) async fn start(db: &Session<'_, impl Connection>, run: &SkillRun) -> Result<()> {
    let row = codec::encode_run(run, &db.limits)?;
    let started_again = OnConflict::column(Column::Id)
        .update_columns([
            Column::SkillId,
            Column::CallerId,
            Column::ChannelId,
            Column::ParentRunId,
            Column::Inputs,
            Column::StartedAt,
        ])
        // What is finished stays as it is, however late a start arrives.
        .action_and_where(Expr::col((Entity, Column::FinishedAt)).is_null())
        .to_owned();
    let mut insert = Entity::insert(row.clone().into_active_model())
        .on_conflict(started_again)
        .into_query();
    insert.into_table(db.runs());
    if db.execute(&insert).await? > 0 {
        return Ok(());
    }

    let stored = confirmed(db, &row.id).await?;
    let Some(stored) = stored.filter(|stored| stored.finished_at.is_some()) else {
        // It was finished when we came, and has been purged since, and perhaps started anew.
        return Err(Error::Busy {
            source: "the run was deleted meanwhile".into(),
        });
    };
    let is_same = if row.finished_at.is_none() {
        codec::is_same_start(&row, &stored)
    } else {
        codec::is_same_run(&row, &stored)
    };
    if is_same {
        Ok(())
    } else {
        Err(Error::RunFinished { run_id: row.id })
    }
}

pub(crate) async fn finish(
    db: &Session<'_, impl Connection>,
    run_id: &str,
    stats: &RunStats,
) -> Result<()> {
    rules::run_id("run_id", run_id)?;
    rules::outcome("status", &stats.status)?;
    let outcome = Outcome::encode(stats, &db.limits)?;
    let mut update = Entity::update_many()
        .set(outcome.finish(rules::micros(db.clock.now())))
        .filter(COLUMN.id.eq(run_id))
        .filter(COLUMN.finished_at.is_null())
        .into_query();
    update.table(db.runs());
    if db.execute(&update).await? > 0 {
        return Ok(());
    }

    match confirmed(db, run_id).await? {
        Some(stored) if stored.finished_at.is_none() => {
            // It wasn't there when we came, and has been started since.
            Err(Error::not_found(run_id))
        }
        Some(stored) if Outcome::of_row(&stored) == outcome => Ok(()),
        Some(_) => Err(Error::RunFinished {
            run_id: run_id.to_owned(),
        }),
        None => Err(Error::not_found(run_id)),
    }
}

pub(crate) async fn get(db: &Session<'_, impl Connection>, run_id: &str) -> Result<SkillRun> {
    rules::run_id("run_id", run_id)?;
    let rows = db.fetch(&by_id(db, run_id)).await?;
    match rows.first() {
        Some(row) => codec::decode_run(row),
        None => Err(Error::not_found(run_id)),
    }
}

/// What a write that has found nothing to do is judged by.
///
/// It locks the row, and so is a write itself on PostgreSQL: with synchronous replication it waits until the standby
/// has the row. Else the repetition of a write that was cut off while it waited would acknowledge what no standby has.
async fn confirmed(db: &Session<'_, impl Connection>, run_id: &str) -> Result<Option<Model>> {
    let mut query = by_id(db, run_id);
    query.lock(LockType::KeyShare);
    let rows = db.fetch(&query).await?;
    rows.first().map(codec::read_run).transpose()
}

fn by_id(db: &Settings, run_id: &str) -> SelectStatement {
    let mut query = db.select_runs();
    query.and_where(COLUMN.id.eq(run_id));
    query
}
