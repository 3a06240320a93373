//! Reading one run, and code shared by starts and finishes.

use std::collections::HashMap;

use runtrail_audit::{Error, Result, SkillRun, rules};
use runtrail_db::{Executor, Plan, Planned, Row, backend};
use runtrail_entity::skill_run::{COLUMN, Column, Model};
use sea_orm::sea_query::{Expr, ExprTrait, LockType, Query, SelectStatement};
use sea_orm::{ColumnTrait, ColumnType, DbErr, IdenStatic};

use crate::settings::{Session, Settings};
use crate::{codec, error};

pub(crate) async fn get(db: &Session<'_, impl Executor>, run_id: &str) -> Result<SkillRun> {
    rules::run_id("run_id", run_id)?;
    let query = db.shaped(&db.tables.get, [run_id.into()], || Ok(by_id(db, run_id)))?;
    let rows = db.fetch(&query).await?;
    match rows.into_iter().next() {
        Some(row) => codec::decode_run(row),
        None => Err(Error::not_found(run_id)),
    }
}

/// Returns whether each of these runs has finished. Unknown runs are left out.
pub(crate) async fn are_finished(
    db: &Session<'_, impl Executor>,
    run_ids: &[impl AsRef<str> + Sync],
) -> Result<HashMap<String, bool>> {
    let query = Query::select()
        .columns([Column::Id, Column::FinishedAt])
        .from(db.runs())
        .and_where(
            COLUMN
                .id
                .in_subquery(backend::unfold(db.backend(), run_ids)?),
        )
        .take();
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    let state = |row: &Row| {
        // Another program may have stored something else than a number.
        let finished_at = row.get::<Option<i64>>(1).unwrap_or(Some(0));
        Ok((row.get(0)?, finished_at.is_some()))
    };
    let states: Result<_, DbErr> = rows.iter().map(state).collect();
    states.map_err(error::database)
}

/// Reads the stored run after a write that changed nothing, to determine the result of the write.
///
/// The query locks the row, which makes it a write on PostgreSQL: with synchronous replication, it
/// waits until the standby has the row. A write may be interrupted while it waits for the standby.
/// Without the lock, its retry would then acknowledge a row that no standby has.
pub(crate) async fn confirmed_run(
    db: &Session<'_, impl Executor>,
    run_id: &str,
) -> Result<Option<Model>> {
    let mut query = db.with_lock_timeout(by_id(db, run_id));
    query.lock(LockType::KeyShare);
    let rows = db.fetch(&query).await?;
    rows.into_iter().next().map(codec::read_run).transpose()
}

/// Like [`confirmed_run`] for many runs, without damaged rows.
pub(crate) async fn confirmed_runs(
    db: &Session<'_, impl Executor>,
    run_ids: impl Iterator<Item = &String>,
) -> Result<HashMap<String, Model>> {
    let run_ids: Vec<_> = run_ids.collect();
    let mut query = db.with_lock_timeout(db.select_runs());
    query
        .and_where(
            COLUMN
                .id
                .in_subquery(backend::unfold(db.backend(), &run_ids)?),
        )
        .lock(LockType::KeyShare);
    let rows = codec::decode_readable(db.fetch(&query).await?, codec::read_run)?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

fn by_id(db: &Settings, run_id: &str) -> SelectStatement {
    let mut query = db.select_runs();
    query.and_where(COLUMN.id.eq(run_id));
    query
}

/// Whether a statement that passes many rows in one parameter can carry this run.
pub(crate) fn fits_batch(row: &Model) -> bool {
    backend::quotient(row.runtime_seconds).is_some()
}

/// The value of this column in an unfolded row.
pub(crate) fn unfolded_value(db: &Session<'_, impl Executor>, column: Column) -> Expr {
    let value = backend::field(db.backend(), column.as_str());
    match column.def().get_column_type() {
        ColumnType::BigInteger => value.cast_as("bigint"),
        ColumnType::Double => backend::fraction(db.backend(), column.as_str()),
        _ => value,
    }
}
