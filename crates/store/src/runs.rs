//! Writing one run, and reading it.

use std::collections::HashMap;

use runtrail_audit::{Error, Result, RunStats, SkillRun, rules};
use runtrail_entity::skill_run::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{
    Expr, ExprTrait, InsertStatement, LockType, OnConflict, Query, SelectStatement, UpdateStatement,
};
use sea_orm::{
    ColumnTrait, ColumnType, EntityTrait, IdenStatic, Iterable, ModelTrait, QueryFilter,
    QueryTrait, Value,
};
use serde::Serialize;

use crate::codec::{self, Outcome};
use crate::connection::Connection;
use crate::session::Session;
use crate::settings::Settings;
use crate::write::Write;
use crate::{backend, error};

pub(crate) async fn start(db: &Session<'_, impl Connection>, run: &SkillRun) -> Result<()> {
    let row = codec::encode_run(run, &db.limits)?;
    db.write(Write::Start(row)).await
}

pub(crate) async fn start_alone(
    db: &Session<'_, impl Connection>,
    row: &Model,
    is_wanted: impl Fn() -> bool + Send,
) -> Result<()> {
    let insert = insert_one(db, row)?;
    if db.execute(&insert).await? > 0 {
        return Ok(());
    }
    match confirmed(db, &row.id).await? {
        Some(stored) => start_again(db, row, &stored, is_wanted).await,
        None => Err(deleted_meanwhile()),
    }
}

/// Starts runs, no two of them with the same id, and returns the answers that are certain. With each row comes whether
/// its caller still waits.
pub(crate) async fn start_many(
    db: &Session<'_, impl Connection>,
    starts: &[(&Model, impl Fn() -> bool + Send + Sync)],
) -> Result<Vec<Option<Result<()>>>> {
    let rows: Vec<_> = starts.iter().map(|(row, _)| *row).collect();
    let insert = insert_many(db, &rows)?;
    if db.execute(&insert).await? == rows.len() as u64 {
        return Ok(rows.iter().map(|_| Some(Ok(()))).collect());
    }
    let stored = confirmed_many(db, rows.iter().map(|row| &row.id)).await?;
    let mut answers = Vec::with_capacity(rows.len());
    for (row, is_wanted) in starts {
        answers.push(match stored.get(&row.id) {
            Some(stored) => Some(start_again(db, row, stored, is_wanted).await),
            None => None,
        });
    }
    Ok(answers)
}

/// Starts a run that must not be stored yet.
pub(crate) async fn create(db: &Session<'_, impl Connection>, run: &SkillRun) -> Result<()> {
    let row = codec::encode_run(run, &db.limits)?;
    let insert = insert_one(db, &row)?;
    if db.execute(&insert).await? > 0 {
        return Ok(());
    }
    match confirmed(db, &row.id).await? {
        Some(stored) if is_started(&row, &stored) => Ok(()),
        Some(_) => Err(Error::RunExists { run_id: row.id }),
        None => Err(deleted_meanwhile()),
    }
}

/// Starts a run that is stored: nothing changes once it is finished, and a running run gets the new start.
///
/// The statement names the start that it replaces. So an older attempt that reaches the database late, from a
/// connection that had stalled or a future that was dropped, never replaces a start that was acknowledged since. For
/// the same reason it isn't sent once nobody waits for this start any more.
async fn start_again(
    db: &Session<'_, impl Connection>,
    row: &Model,
    stored: &Model,
    is_wanted: impl Fn() -> bool + Send,
) -> Result<()> {
    if stored.finished_at.is_some() {
        return compare_with_finished(row, stored);
    }
    if codec::is_same_start(row, stored) {
        return Ok(());
    }
    if !is_wanted() {
        return Err(Error::Busy {
            source: "the caller has given up".into(),
        });
    }
    if db.execute(&replace_start(db, row, stored)).await? > 0 {
        return Ok(());
    }
    match confirmed(db, &row.id).await? {
        None => Err(deleted_meanwhile()),
        // Another start has come after this one, which may have been stored in between by an attempt whose answer was
        // lost. To store it now would undo the later one.
        Some(now) if start_values(&now) != start_values(stored) => Ok(()),
        Some(now) if now.finished_at.is_some() => compare_with_finished(row, &now),
        Some(_) => Err(Error::Busy {
            source: "the run is being started by others at the same time".into(),
        }),
    }
}

fn compare_with_finished(row: &Model, stored: &Model) -> Result<()> {
    if is_started(row, stored) {
        Ok(())
    } else {
        Err(Error::RunFinished {
            run_id: row.id.clone(),
        })
    }
}

fn deleted_meanwhile() -> Error {
    Error::Busy {
        source: "the run was deleted meanwhile".into(),
    }
}

fn replace_start(
    db: &Session<'_, impl Connection>,
    row: &Model,
    replaced: &Model,
) -> UpdateStatement {
    let new = START.into_iter().zip(start_values(row).map(Expr::val));
    let mut update = Query::update()
        .table(db.runs())
        .values(new)
        .and_where(COLUMN.id.eq(row.id.as_str()))
        .and_where(COLUMN.finished_at.is_null())
        .take();
    for (column, value) in START.into_iter().zip(start_values(replaced)) {
        let column = Expr::col((Entity, column));
        update.and_where(match value {
            Value::String(None) => column.is_null(),
            value => column.eq(value),
        });
    }
    if let Some(patience) = db.patience() {
        update.from(patience);
    }
    update
}

/// What a start sets, also of a run that is running already.
const START: [Column; 6] = [
    Column::SkillId,
    Column::CallerId,
    Column::ChannelId,
    Column::ParentRunId,
    Column::Inputs,
    Column::StartedAt,
];

fn start_values(row: &Model) -> [Value; 6] {
    START.map(|column| row.get(column))
}

/// Inserts rows of another history as they are, no two of them with the same id, and tells which are stored; one that is
/// there already is left alone.
pub(crate) async fn insert(db: &Session<'_, impl Connection>, rows: &[Model]) -> Result<Vec<bool>> {
    let (rows_of_many, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| fits_many(row));
    let mut written = 0;
    if !rows_of_many.is_empty() {
        let insert = insert_many(db, &rows_of_many)?;
        written += db.execute(&insert).await?;
    }
    for row in others {
        written += db.execute(&insert_one(db, row)?).await?;
    }
    if written == rows.len() as u64 {
        return Ok(vec![true; rows.len()]);
    }
    let stored = confirmed_many(db, rows.iter().map(|row| &row.id)).await?;
    Ok(rows
        .iter()
        .map(|row| stored.get(&row.id) == Some(row))
        .collect())
}

/// Whether a run can be a row of many that are one parameter.
fn fits_many(row: &Model) -> bool {
    backend::quotient(row.runtime_seconds).is_some()
}

fn insert_one(db: &Session<'_, impl Connection>, row: &Model) -> Result<InsertStatement> {
    let mut insert = insert_unless_stored(db);
    let values = Column::iter().map(|column| Expr::val(row.get(column)));
    match db.patience() {
        None => insert.values(values).map_err(error::statement)?,
        Some(patience) => {
            let run = Query::select().exprs(values).from(patience).take();
            insert.select_from(run).map_err(error::statement)?
        }
    };
    Ok(insert)
}

fn insert_many(db: &Session<'_, impl Connection>, rows: &[&Model]) -> Result<InsertStatement> {
    let values: Vec<_> = rows.iter().map(|row| codec::run_values(row)).collect();
    let runs = Query::select()
        .exprs(Column::iter().map(|column| given(db, column)))
        .from(backend::unfold_rows(db.connection(), &values)?)
        // Without it SQLite takes the ON of what follows for that of a join.
        .and_where(Expr::Constant(true.into()))
        .take();
    let mut insert = insert_unless_stored(db);
    let inserting = insert.select_from(db.patiently(runs));
    inserting.map_err(error::statement)?;
    Ok(insert)
}

fn insert_unless_stored(db: &Settings) -> InsertStatement {
    Query::insert()
        .into_table(db.runs())
        .columns(Column::iter())
        .on_conflict(OnConflict::column(Column::Id).do_nothing().to_owned())
        .take()
}

/// Whether what is stored tells of this start.
fn is_started(row: &Model, stored: &Model) -> bool {
    if row.finished_at.is_none() {
        codec::is_same_start(row, stored)
    } else {
        codec::is_same_run(row, stored)
    }
}

/// How a run ended, and when.
#[derive(Debug, Serialize)]
pub(crate) struct Finish {
    #[serde(rename = "id")]
    pub(crate) run_id: String,
    finished_at: i64,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

impl Finish {
    /// How a run has ended; none while it is running.
    fn of_row(row: &Model) -> Option<Self> {
        Some(Self {
            run_id: row.id.clone(),
            finished_at: row.finished_at?,
            outcome: Outcome::of_row(row),
        })
    }
}

pub(crate) async fn finish(
    db: &Session<'_, impl Connection>,
    run_id: &str,
    stats: &RunStats,
) -> Result<()> {
    let finish = Finish {
        run_id: rules::run_id("run_id", run_id)?.to_owned(),
        finished_at: rules::micros(db.clock.now()),
        outcome: Outcome::encode_finished(stats, &db.limits)?,
    };
    db.write(Write::Finish(finish)).await
}

pub(crate) async fn finish_alone(db: &Session<'_, impl Connection>, finish: &Finish) -> Result<()> {
    let Finish {
        run_id,
        finished_at,
        outcome,
    } = finish;
    let runtime = Outcome::runtime(Expr::val(outcome.runtime_seconds), Expr::val(*finished_at));
    let mut update = Entity::update_many()
        .set(outcome.finish(*finished_at))
        .col_expr(Column::RuntimeSeconds, runtime)
        .filter(COLUMN.id.eq(run_id))
        .filter(COLUMN.finished_at.is_null())
        .into_query();
    update.table(db.runs());
    if let Some(patience) = db.patience() {
        update.from(patience);
    }
    if db.execute(&update).await? > 0 {
        return Ok(());
    }

    match confirmed(db, run_id).await? {
        Some(stored) if stored.finished_at.is_none() => {
            // It wasn't there when we came, and has been started since.
            Err(Error::not_found(run_id))
        }
        Some(stored) if outcome.is_of(&stored) => Ok(()),
        Some(_) => Err(Error::RunFinished {
            run_id: run_id.clone(),
        }),
        None => Err(Error::not_found(run_id)),
    }
}

/// Finishes runs, no run twice, and tells which are stored for certain.
pub(crate) async fn finish_many(
    db: &Session<'_, impl Connection>,
    finishes: &[&Finish],
) -> Result<Vec<bool>> {
    let mut update = Query::update()
        .table(db.runs())
        .values(Outcome::COLUMNS.map(|column| (column, finished(db, column))))
        .from(backend::unfold_rows(db.connection(), finishes)?)
        .and_where(Expr::col((Entity, Column::Id)).eq(given(db, Column::Id)))
        .and_where(COLUMN.finished_at.is_null())
        .take();
    if let Some(patience) = db.patience() {
        update.from(patience);
    }
    if db.execute(&update).await? == finishes.len() as u64 {
        return Ok(vec![true; finishes.len()]);
    }
    let stored = confirmed_many(db, finishes.iter().map(|finish| &finish.run_id)).await?;
    let is_stored = |finish: &&Finish| {
        let stored = stored.get(&finish.run_id);
        let finished = stored.filter(|stored| stored.finished_at.is_some());
        finished.is_some_and(|stored| finish.outcome.is_of(stored))
    };
    Ok(finishes.iter().map(is_stored).collect())
}

/// Finishes runs as they are finished in another history, and tells which are.
pub(crate) async fn finish_as(
    db: &Session<'_, impl Connection>,
    rows: &[Model],
) -> Result<Vec<bool>> {
    let finishes: Vec<_> = rows.iter().filter_map(Finish::of_row).collect();
    if rows.iter().all(fits_many) {
        return finish_many(db, &finishes.iter().collect::<Vec<_>>()).await;
    }
    let mut stored = Vec::with_capacity(finishes.len());
    for finish in &finishes {
        stored.push(match finish_alone(db, finish).await {
            Ok(()) => true,
            Err(Error::RunFinished { .. } | Error::NotFound { .. }) => false,
            Err(err) => return Err(err),
        });
    }
    Ok(stored)
}

/// What a finish sets this column to, by an unfolded row.
fn finished(db: &Session<'_, impl Connection>, column: Column) -> Expr {
    match column {
        Column::RuntimeSeconds => {
            Outcome::runtime(given(db, column), given(db, Column::FinishedAt))
        }
        column => given(db, column),
    }
}

/// The value of this column in an unfolded row.
fn given(db: &Session<'_, impl Connection>, column: Column) -> Expr {
    let value = backend::field(db.connection(), column.as_str());
    match column.def().get_column_type() {
        ColumnType::BigInteger => value.cast_as("bigint"),
        ColumnType::Double => backend::fraction(db.connection(), column.as_str()),
        _ => value,
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
    let mut query = db.patiently(by_id(db, run_id));
    query.lock(LockType::KeyShare);
    let rows = db.fetch(&query).await?;
    rows.first().map(codec::read_run).transpose()
}

/// The same for many runs; without those that can't be read.
async fn confirmed_many(
    db: &Session<'_, impl Connection>,
    run_ids: impl Iterator<Item = &String>,
) -> Result<HashMap<String, Model>> {
    let run_ids: Vec<_> = run_ids.collect();
    let mut query = db.patiently(db.select_runs());
    query
        .and_where(
            COLUMN
                .id
                .in_subquery(backend::unfold(db.connection(), &run_ids)?),
        )
        .lock(LockType::KeyShare);
    let rows = codec::readable(&db.fetch(&query).await?, codec::read_run)?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

fn by_id(db: &Settings, run_id: &str) -> SelectStatement {
    let mut query = db.select_runs();
    query.and_where(COLUMN.id.eq(run_id));
    query
}
