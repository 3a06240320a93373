//! Writing one run, and reading it.

use runtrail_audit::{Error, Result, RunStats, SkillRun, rules};
use runtrail_entity::skill_run::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{EntityTrait, IntoActiveModel, QueryFilter, QueryResult, QueryTrait};

use crate::codec::{self, Outcome};
use crate::connection::Connection;
use crate::session::Session;

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

    let stored = stored(db, &row.id).await?;
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

    match stored(db, run_id).await? {
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
    match find(db, run_id).await? {
        Some(row) => codec::decode_run(&row),
        None => Err(Error::not_found(run_id)),
    }
}

async fn stored(db: &Session<'_, impl Connection>, run_id: &str) -> Result<Option<Model>> {
    let row = find(db, run_id).await?;
    row.as_ref().map(codec::read_run).transpose()
}

async fn find(db: &Session<'_, impl Connection>, run_id: &str) -> Result<Option<QueryResult>> {
    let mut query = db.select_runs();
    query.and_where(COLUMN.id.eq(run_id));
    Ok(db.fetch(&query).await?.into_iter().next())
}
