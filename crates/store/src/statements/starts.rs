//! Starting runs.

use std::borrow::Cow;

use runtrail_audit::{Error, Result, SkillRun};
use runtrail_db::{Executor, backend};
use runtrail_entity::skill_run::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, InsertStatement, OnConflict, Query, UpdateStatement};
use sea_orm::{Iterable, ModelTrait, Value};

use crate::codec;
use crate::error;
use crate::settings::{Session, Settings};
use crate::statements::labels;
use crate::statements::runs::{confirmed_run, confirmed_runs, fits_batch, unfolded_value};

pub(crate) async fn start_one(
    db: &Session<'_, impl Executor>,
    row: &Model,
    is_caller_waiting: impl Fn() -> bool + Send,
) -> Result<()> {
    let values = Column::iter().map(|column| row.get(column));
    let insert = db.shaped(&db.tables.start, values, || insert_one(db, row))?;
    if db.execute(&insert).await? > 0 {
        return Ok(());
    }
    match confirmed_run(db, &row.id).await? {
        Some(stored) => start_again(db, row, &stored, is_caller_waiting).await,
        None => Err(deleted_concurrently()),
    }
}

/// Returns the result of each start in a statement of [`insert_many`] that has not inserted all
/// runs, or `None` if it is unknown. The function next to each row returns whether its caller still
/// waits.
pub(crate) async fn confirm_many(
    db: &Session<'_, impl Executor>,
    starts: &[(&Model, impl Fn() -> bool + Send + Sync)],
) -> Result<Vec<Option<Result<()>>>> {
    let stored = confirmed_runs(db, starts.iter().map(|(row, _)| &row.id)).await?;
    let mut answers = Vec::with_capacity(starts.len());
    for (row, is_caller_waiting) in starts {
        answers.push(match stored.get(&row.id) {
            Some(stored) => Some(start_again(db, row, stored, is_caller_waiting).await),
            None => None,
        });
    }
    Ok(answers)
}

/// Starts a run under an id that must be unused.
pub(crate) async fn create(db: &Session<'_, impl Executor>, run: &SkillRun) -> Result<()> {
    let row = codec::encode_run(run, db)?;
    let insert = insert_one(db, &row)?;
    if db.execute(&insert).await? > 0 {
        return Ok(());
    }
    match confirmed_run(db, &row.id).await? {
        Some(stored) if is_started(&row, &stored) => Ok(()),
        Some(_) => Err(Error::RunExists { run_id: row.id }),
        None => Err(deleted_concurrently()),
    }
}

/// Starts a run that is already stored: a running run gets the new start, and a finished run
/// doesn't change.
///
/// The statement replaces only the start that was read. An older attempt that reaches the database
/// late, from a stalled connection or a dropped future, therefore never replaces a start that was
/// acknowledged since. For the same reason, the statement isn't sent once the caller has given up.
async fn start_again(
    db: &Session<'_, impl Executor>,
    row: &Model,
    stored: &Model,
    is_caller_waiting: impl Fn() -> bool + Send,
) -> Result<()> {
    let mut stored = Cow::Borrowed(stored);
    for _ in 0..labels::TRIES {
        if stored.finished_at.is_some() {
            return compare_with_finished(row, &stored);
        }
        let is_same = codec::is_same_start(row, &stored) && row.owner_id == stored.owner_id;
        let (old, new) = (stored.labels.as_deref(), row.labels.as_deref());
        let labels = match is_same {
            // A repetition: labels that were added since the first attempt are newer.
            true => codec::merge_labels(&row.id, new, old)?,
            false => codec::merge_labels(&row.id, old, new)?,
        };
        if is_same && labels == stored.labels {
            return Ok(());
        }
        if !is_caller_waiting() {
            return Err(Error::Busy {
                source: "the caller has given up".into(),
            });
        }
        let merged = Model {
            labels,
            ..row.clone()
        };
        if db.execute(&replace_start(db, &merged, &stored)).await? > 0 {
            return Ok(());
        }
        match confirmed_run(db, &row.id).await? {
            None => return Err(deleted_concurrently()),
            // Another call has replaced the start that was read. This call counts as written before
            // the other: an earlier attempt, whose answer was lost, may have stored its start.
            // Writing this start now could undo the other call.
            Some(now) if has_other_start(&now, &stored) => {
                return match codec::has_keys(&now, row.labels.as_deref()) {
                    true => Ok(()),
                    false => labels::add(db, &row.id, row.labels.as_deref()).await,
                };
            }
            Some(now) if now.finished_at.is_some() => return compare_with_finished(row, &now),
            // Only the labels have changed.
            Some(now) if now.labels != stored.labels => stored = Cow::Owned(now),
            Some(_) => break,
        }
    }
    Err(Error::Busy {
        source: "other callers are starting the run at the same time".into(),
    })
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

fn deleted_concurrently() -> Error {
    Error::Busy {
        source: "the run was deleted in the meantime".into(),
    }
}

fn replace_start(
    db: &Session<'_, impl Executor>,
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
    if let Some(lock_timeout) = db.lock_timeout_table() {
        update.from(lock_timeout);
    }
    update
}

/// The columns that a repeated start replaces.
const START: [Column; 8] = [
    Column::SkillId,
    Column::CallerId,
    Column::ChannelId,
    Column::ParentRunId,
    Column::Inputs,
    Column::StartedAt,
    Column::OwnerId,
    Column::Labels,
];

/// Whether another start has replaced the one that was read, and not only its labels.
fn has_other_start(now: &Model, read: &Model) -> bool {
    let is_other = |column: &Column| now.get(*column) != read.get(*column);
    let mut columns = START
        .iter()
        .filter(|column| !matches!(column, Column::Labels));
    columns.any(is_other)
}

fn start_values(row: &Model) -> [Value; 8] {
    START.map(|column| row.get(column))
}

/// Inserts rows of another history unchanged; their ids are distinct. Existing rows don't change.
/// Returns for each row whether the stored row now equals it.
pub(crate) async fn insert(db: &Session<'_, impl Executor>, rows: &[Model]) -> Result<Vec<bool>> {
    let (batch, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| fits_batch(row));
    let mut written = 0;
    if !batch.is_empty() {
        let insert = insert_many(db, &batch)?;
        written += db.execute(&insert).await?;
    }
    for row in others {
        written += db.execute(&insert_one(db, row)?).await?;
    }
    if written == rows.len() as u64 {
        return Ok(vec![true; rows.len()]);
    }
    let stored = confirmed_runs(db, rows.iter().map(|row| &row.id)).await?;
    Ok(rows
        .iter()
        .map(|row| stored.get(&row.id) == Some(row))
        .collect())
}

fn insert_one(db: &Session<'_, impl Executor>, row: &Model) -> Result<InsertStatement> {
    let mut insert = insert_unless_stored(db);
    let values = Column::iter().map(|column| Expr::val(row.get(column)));
    match db.lock_timeout_table() {
        None => insert.values(values).map_err(error::statement)?,
        Some(lock_timeout) => {
            let run = Query::select().exprs(values).from(lock_timeout).take();
            insert.select_from(run).map_err(error::statement)?
        }
    };
    Ok(insert)
}

/// Starts runs with distinct ids, except those that are already stored.
pub(crate) fn insert_many(
    db: &Session<'_, impl Executor>,
    rows: &[&Model],
) -> Result<InsertStatement> {
    let values: Vec<_> = rows.iter().map(|row| codec::run_values(row)).collect();
    let runs = Query::select()
        .exprs(Column::iter().map(|column| unfolded_value(db, column)))
        .from(backend::unfold_rows(db.backend(), &values)?)
        // Without a WHERE, SQLite parses the ON of ON CONFLICT as that of a join.
        .and_where(Expr::Constant(true.into()))
        .take();
    let mut insert = insert_unless_stored(db);
    let inserting = insert.select_from(db.with_lock_timeout(runs));
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

/// Whether the stored run has this start, with the keys of all its labels: their values may have
/// been replaced since.
fn is_started(row: &Model, stored: &Model) -> bool {
    let is_same = match row.finished_at {
        None => codec::is_same_start(row, stored),
        Some(_) => codec::is_same_run(row, stored),
    };
    is_same && codec::has_keys(stored, row.labels.as_deref())
}
