//! Writing and reading the events of runs.

use std::collections::HashMap;

use runtrail_audit::{
    CursorPage, Error, ListOrder, LogFilter, PageRequest, Result, SkillRunLog, rules,
};
use runtrail_db::keyset::{self, Part};
use runtrail_db::{Executor, Plan, Planned, Row, backend};
use runtrail_entity::skill_run;
use runtrail_entity::skill_run_log::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{
    Expr, ExprTrait, InsertStatement, LockType, OnConflict, Query, SelectStatement,
};
use sea_orm::{ColumnTrait, ColumnType, Iterable, Order, Value};
use serde::Serialize;

use crate::codec::{ListId, LogValue};
use crate::read::chunk::Chunk;
use crate::read::page::List;
use crate::settings::Session;
use crate::statements::{MAX_BATCH_BYTES, MAX_BATCH_ROWS};
use crate::{codec, error};

const KEY: [Column; 2] = [Column::RunId, Column::Sequence];

/// The sort key of the events of a run.
const SEQUENCE: [Column; 1] = [Column::Sequence];

pub(crate) async fn append_one(db: &Session<'_, impl Executor>, row: &Model) -> Result<()> {
    let columns = codec::written_columns([row]);
    let event = columns
        .iter()
        .map(|column| LogValue::of(row, *column).into());
    let run_id = Value::from(row.run_id.as_str());
    let shape = match columns.len() == Column::iter().len() {
        true => &db.tables.append_with_usage,
        false => &db.tables.append,
    };
    let insert = db.shaped(shape, event.clone().chain([run_id]), || {
        let event_of_run = Query::select()
            .exprs(event.map(|value: Value| Expr::val(value)))
            .from(db.runs())
            .and_where(skill_run::COLUMN.id.eq(row.run_id.as_str()))
            .take();
        insert_unless_stored(db, &columns, event_of_run)
    })?;
    if db.execute(&insert).await? > 0 {
        return Ok(());
    }

    let mut query = db.select_logs();
    query
        .and_where(COLUMN.run_id.eq(row.run_id.as_str()))
        .and_where(COLUMN.sequence.eq(row.sequence));
    let stored = db.fetch(&query).await?;
    let stored = stored.into_iter().next().map(codec::read_log).transpose()?;
    compare(row, stored.as_ref())
}

pub(crate) async fn append_all(
    db: &Session<'_, impl Executor>,
    events: &[SkillRunLog],
) -> Result<()> {
    let now = db.clock.now();
    let rows = events
        .iter()
        .map(|event| codec::encode_log(event, now, &db.limits))
        .collect::<Result<Vec<_>>>()?;
    let rows: Vec<_> = rows.iter().collect();

    let mut refusal = Ok(());
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let batch;
        (batch, rest) = rest.split_at(batch_length(rest));
        let answers = append_batch(&db.with_fresh_deadline(), batch).await?;
        refusal = refusal.and(answers.into_iter().collect());
    }
    refusal
}

/// Appends the events of a batch, with the same results as appending one after another. Returns the
/// result of each event.
///
/// Another caller may start the run between the insert and the query that follows, and append
/// events to it. Some events of the batch are then missing although the run exists, while others
/// conflict. The missing events are appended again.
async fn append_batch(
    db: &Session<'_, impl Executor>,
    batch: &[&Model],
) -> Result<Vec<Result<()>>> {
    let mut answers = append_many(db, batch).await?;
    loop {
        let is_missing = |answer: &Result<()>| matches!(answer, Err(Error::NotFound { .. }));
        let missing: Vec<usize> = (0..batch.len())
            .filter(|&index| is_missing(&answers[index]))
            .collect();
        if missing.is_empty() || missing.len() == batch.len() {
            return Ok(answers);
        }
        let rows: Vec<_> = missing.iter().map(|&index| batch[index]).collect();
        let again = append_many(db, &rows).await?;
        let is_settled = again.iter().all(is_missing);
        for (index, answer) in missing.into_iter().zip(again) {
            answers[index] = answer;
        }
        if is_settled {
            return Ok(answers);
        }
    }
}

/// The number of rows that fit into one batch; at least one.
fn batch_length(rows: &[&Model]) -> usize {
    let mut bytes = 0;
    let fitting = rows.iter().take(MAX_BATCH_ROWS).take_while(|row| {
        bytes += row.payload.len();
        bytes <= MAX_BATCH_BYTES
    });
    fitting.count().max(1)
}

/// Appends events with one statement. Returns the result of each event.
pub(crate) async fn append_many(
    db: &Session<'_, impl Executor>,
    rows: &[&Model],
) -> Result<Vec<Result<()>>> {
    match db.execute(&insert_many(db, rows)?).await? == rows.len() as u64 {
        true => Ok(rows.iter().map(|_| Ok(())).collect()),
        false => confirm_many(db, rows).await,
    }
}

/// Appends events of stored runs, except those that are already stored.
pub(crate) fn insert_many(
    db: &Session<'_, impl Executor>,
    rows: &[&Model],
) -> Result<InsertStatement> {
    let columns = codec::written_columns(rows.iter().copied());
    let values_of = |row| -> Vec<_> {
        let columns = columns.iter();
        columns.map(|column| LogValue::of(row, *column)).collect()
    };
    let values: Vec<_> = rows.iter().map(|row| values_of(row)).collect();
    let field = |place: i32| backend::field(db.backend(), place);
    let fields = columns.iter().zip(0..).map(|(column, place)| {
        match matches!(column.def().get_column_type(), ColumnType::BigInteger) {
            true => field(place).cast_as("bigint"),
            false => field(place),
        }
    });

    let events_of_runs = Query::select()
        .exprs(fields)
        .from(backend::unfold_rows(db.backend(), &values)?)
        .from(db.runs())
        .and_where(Expr::col((skill_run::Entity, skill_run::Column::Id)).eq(field(0)))
        .take();
    insert_unless_stored(db, &columns, events_of_runs)
}

/// Returns the result of each event in a statement of [`insert_many`] that has not inserted all
/// events.
pub(crate) async fn confirm_many(
    db: &Session<'_, impl Executor>,
    rows: &[&Model],
) -> Result<Vec<Result<()>>> {
    let keys: Vec<_> = rows.iter().map(|row| (&row.run_id, row.sequence)).collect();
    let keys = Query::select()
        .expr(backend::field(db.backend(), 0))
        .expr(backend::field(db.backend(), 1).cast_as("bigint"))
        .from(backend::unfold_rows(db.backend(), &keys)?)
        .take();
    let mut query = db.select_logs();
    query.and_where(Expr::tuple(KEY.map(Expr::col)).in_subquery(keys));
    let stored = db.fetch(&query).await?;
    let stored: Vec<_> = stored
        .into_iter()
        .map(codec::read_log)
        .collect::<Result<_>>()?;
    let stored: HashMap<_, _> = stored
        .iter()
        .map(|row| ((row.run_id.as_str(), row.sequence), row))
        .collect();
    let answer = |row: &&Model| {
        let stored = stored.get(&(row.run_id.as_str(), row.sequence));
        compare(row, stored.copied())
    };
    Ok(rows.iter().map(answer).collect())
}

/// Inserts the selected events, except those that are already stored.
///
/// The selection joins the runs, so the same statement checks that they exist. Relying on the
/// foreign key instead would abort a host's transaction on PostgreSQL.
fn insert_unless_stored(
    db: &Session<'_, impl Executor>,
    columns: &[Column],
    mut events_of_runs: SelectStatement,
) -> Result<InsertStatement> {
    // With this lock, PostgreSQL waits for a transaction that is deleting the run, and inserts
    // events only if the run still exists afterwards. SQLite has no such locks.
    events_of_runs.lock(LockType::KeyShare);
    let events_of_runs = db.with_lock_timeout(events_of_runs);
    let mut insert = Query::insert();
    insert
        .into_table(db.logs())
        .columns(columns.iter().copied())
        .on_conflict(OnConflict::columns(KEY).do_nothing().to_owned());
    let insert = insert.select_from(events_of_runs);
    Ok(insert.map_err(error::statement)?.take())
}

/// The result of an event that was not inserted, given the stored event with its key.
fn compare(event: &Model, stored: Option<&Model>) -> Result<()> {
    match stored {
        Some(stored) if codec::is_same_event(event, stored) => Ok(()),
        Some(_) => Err(Error::Conflict {
            run_id: event.run_id.clone(),
            // Not negative: it was encoded from a u64.
            sequence: event.sequence.unsigned_abs(),
        }),
        None => Err(Error::not_found(&event.run_id)),
    }
}

pub(crate) async fn list(
    db: &Session<'_, impl Executor>,
    run_id: &str,
) -> Result<Vec<SkillRunLog>> {
    rules::run_id("run_id", run_id)?;
    let query = db.shaped(&db.tables.list_logs, [run_id.into()], || {
        let mut query = of_run(db, run_id, &LogFilter::new())?;
        keyset::order_by(&mut query, &SEQUENCE, ListOrder::OldestFirst);
        Ok(query)
    })?;
    codec::decode_readable(db.fetch(&query).await?, codec::decode_log)
}

/// The number of events that [`chunk`] fetches; each may have a payload of the maximum size.
const CHUNK_EVENTS: u64 = 100;

/// Reads the first events of a run, or those after the event with the key `after`.
pub(crate) async fn chunk(
    db: &Session<'_, impl Executor>,
    run_id: &str,
    filter: &LogFilter,
    order: ListOrder,
    after: Option<Vec<Expr>>,
) -> Result<Chunk<SkillRunLog>> {
    let mut query = of_run(db, run_id, filter)?;
    if let Some(key) = after {
        query.and_where(keyset::is_after(&SEQUENCE, key, order));
    }
    keyset::order_by(&mut query, &SEQUENCE, order);
    query.limit(CHUNK_EVENTS);
    let rows = db.fetch_long(&Planned(query, Plan::Fixed)).await?;
    Chunk::from_rows(rows, CHUNK_EVENTS, &SEQUENCE, codec::decode_log)
}

/// Reads a page of the events of a run that starts at a cursor.
pub(crate) async fn page(
    db: &Session<'_, impl Executor>,
    run_id: &str,
    filter: &LogFilter,
    order: ListOrder,
    request: &PageRequest,
) -> Result<CursorPage<SkillRunLog>> {
    let list = List {
        rows: of_run(db, run_id, filter)?,
        parts: vec![Part::all(Plan::Fixed)],
        id: ListId::of_logs(run_id, filter, order)?,
        key: &SEQUENCE,
        order,
    };
    list.page(db, request, codec::decode_log).await
}

/// Selects the events of a run that match a filter.
fn of_run(
    db: &Session<'_, impl Executor>,
    run_id: &str,
    filter: &LogFilter,
) -> Result<SelectStatement> {
    let LogFilter {
        event_type, after, ..
    } = filter;
    let mut query = db.select_logs();
    query.and_where(COLUMN.run_id.eq(rules::run_id("run_id", run_id)?));
    if let Some(event_type) = event_type {
        let event_type = rules::identifier("event_type", event_type)?;
        query.and_where(COLUMN.event_type.eq(event_type));
    }
    if let Some(sequence) = after {
        query.and_where(COLUMN.sequence.gt(rules::count("after", *sequence)?));
    }
    Ok(query)
}

/// The sequences of events of a run: all from the first one to the last one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SequenceRange<'a>(pub(crate) &'a str, pub(crate) i64, pub(crate) i64);

/// Reads the first events in any of these ranges, in the order of their runs and sequences.
pub(crate) async fn in_ranges(
    db: &Session<'_, impl Executor>,
    ranges: &[SequenceRange<'_>],
    limit: u64,
) -> Result<Vec<Row>> {
    let field = |place: i32| backend::field(db.backend(), place);
    let bound = |place| field(place).cast_as("bigint");
    let sequence = || Expr::col((Entity, Column::Sequence));
    let mut query = db.select_logs();
    query
        .from(backend::unfold_rows(db.backend(), ranges)?)
        .and_where(Expr::col((Entity, Column::RunId)).eq(field(0)))
        .and_where(sequence().gte(bound(1)))
        .and_where(sequence().lte(bound(2)))
        .order_by((Entity, Column::RunId), Order::Asc)
        .order_by((Entity, Column::Sequence), Order::Asc)
        .limit(limit);
    db.fetch(&Planned(query, Plan::Fixed)).await
}

/// Returns the largest sequences of a run, in descending order.
pub(crate) async fn last_sequences(
    db: &Session<'_, impl Executor>,
    run_id: &str,
    limit: u64,
) -> Result<Vec<i64>> {
    let query = Query::select()
        .column(Column::Sequence)
        .from(db.logs())
        .and_where(COLUMN.run_id.eq(run_id))
        .order_by(Column::Sequence, Order::Desc)
        .limit(limit)
        .take();
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    // Another program may have stored a sequence that isn't a number.
    Ok(rows.iter().filter_map(|row| row.get(0).ok()).collect())
}
