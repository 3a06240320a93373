//! Writing the events of a run, and reading them.

use std::collections::HashMap;

use runtrail_audit::{
    CursorPage, Error, ListOrder, LogFilter, PageRequest, Result, SkillRunLog, rules,
};
use runtrail_db::{Connection, backend, keyset};
use runtrail_entity::skill_run;
use runtrail_entity::skill_run_log::{COLUMN, Column, Model};
use sea_orm::sea_query::{
    Expr, ExprTrait, InsertStatement, LockType, OnConflict, Query, SelectStatement,
};

use crate::codec::ListId;
use crate::read::page::List;
use crate::read::stretch::Stretch;
use crate::settings::Session;
use crate::statements::{MOST_AT_ONCE, MOST_BYTES_AT_ONCE};
use crate::{codec, error};

const KEY: [Column; 2] = [Column::RunId, Column::Sequence];

/// What the events of a run are ordered by.
const SEQUENCE: [Column; 1] = [Column::Sequence];

pub(crate) async fn append_alone(db: &Session<'_, impl Connection>, row: &Model) -> Result<()> {
    let event_of_run = Query::select()
        .expr(Expr::val(row.run_id.as_str()))
        .expr(Expr::val(row.sequence))
        .expr(Expr::val(row.created_at))
        .expr(Expr::val(row.event_type.as_str()))
        .expr(Expr::val(row.payload.as_str()))
        .from(db.runs())
        .and_where(skill_run::COLUMN.id.eq(row.run_id.as_str()))
        .take();
    let insert = insert_unless_stored(db, event_of_run)?;
    if db.execute(&insert).await? > 0 {
        return Ok(());
    }

    let mut query = db.select_logs();
    query
        .and_where(COLUMN.run_id.eq(row.run_id.as_str()))
        .and_where(COLUMN.sequence.eq(row.sequence));
    let stored = db.fetch(&query).await?;
    let stored = stored.first().map(codec::read_log).transpose()?;
    compare(row, stored.as_ref())
}

pub(crate) async fn append_all(
    db: &Session<'_, impl Connection>,
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
        (batch, rest) = rest.split_at(length_of_batch(rest));
        let answers = append_batch(&db.with_fresh_deadline(), batch).await?;
        refusal = refusal.and(answers.into_iter().collect());
    }
    refusal
}

/// Appends the events of a batch, as if one after the other; returns the answer to each.
///
/// Another caller may start the run between the insert and the query that follows. The query may then find a different
/// event in the place of one of these, while another of these, which should have been stored, is missing.
async fn append_batch(
    db: &Session<'_, impl Connection>,
    batch: &[&Model],
) -> Result<Vec<Result<()>>> {
    let mut answers = append_many(db, batch).await?;
    loop {
        let is_missing = |answer: &Result<()>| matches!(answer, Err(Error::NotFound { .. }));
        let missing: Vec<usize> = (0..batch.len())
            .filter(|&place| is_missing(&answers[place]))
            .collect();
        if missing.is_empty() || missing.len() == batch.len() {
            return Ok(answers);
        }
        let rows: Vec<_> = missing.iter().map(|&place| batch[place]).collect();
        let again = append_many(db, &rows).await?;
        let is_settled = again.iter().all(is_missing);
        for (place, answer) in missing.into_iter().zip(again) {
            answers[place] = answer;
        }
        if is_settled {
            return Ok(answers);
        }
    }
}

/// As many rows as fit into a batch, but at least one.
fn length_of_batch(rows: &[&Model]) -> usize {
    let mut bytes = 0;
    let fitting = rows.iter().take(MOST_AT_ONCE).take_while(|row| {
        bytes += row.payload.len();
        bytes <= MOST_BYTES_AT_ONCE
    });
    fitting.count().max(1)
}

/// Appends events by one statement; returns the answer to each.
pub(crate) async fn append_many(
    db: &Session<'_, impl Connection>,
    rows: &[&Model],
) -> Result<Vec<Result<()>>> {
    let values: Vec<_> = rows
        .iter()
        .map(|row| {
            let Model {
                run_id,
                sequence,
                created_at,
                event_type,
                payload,
            } = row;
            (run_id, sequence, created_at, event_type, payload)
        })
        .collect();
    let list = backend::unfold_rows(db.connection(), &values)?;
    let field = |place: i32| backend::field(db.connection(), place);
    let number = |place| field(place).cast_as("bigint");

    let events_of_runs = Query::select()
        .exprs([field(0), number(1), number(2), field(3), field(4)])
        .from(list.clone())
        .from(db.runs())
        .and_where(Expr::col((skill_run::Entity, skill_run::Column::Id)).eq(field(0)))
        .take();
    let insert = insert_unless_stored(db, events_of_runs)?;
    if db.execute(&insert).await? == rows.len() as u64 {
        return Ok(rows.iter().map(|_| Ok(())).collect());
    }

    let keys = Query::select()
        .exprs([field(0), number(1)])
        .from(list)
        .take();
    let mut query = db.select_logs();
    query.and_where(Expr::tuple(KEY.map(Expr::col)).in_subquery(keys));
    let stored = db.fetch(&query).await?;
    let stored: Vec<_> = stored.iter().map(codec::read_log).collect::<Result<_>>()?;
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

/// An insert of the selected events, which does nothing about those that are there already.
///
/// Selecting from the runs asks whether they are there in the same statement. To let the foreign key refuse would
/// end a host's transaction on PostgreSQL.
fn insert_unless_stored(
    db: &Session<'_, impl Connection>,
    mut events_of_runs: SelectStatement,
) -> Result<InsertStatement> {
    // PostgreSQL then waits for whoever is deleting a run, and finds it or not. SQLite has no such locks.
    events_of_runs.lock(LockType::KeyShare);
    let events_of_runs = db.with_lock_timeout(events_of_runs);
    let mut insert = Query::insert();
    insert
        .into_table(db.logs())
        .columns([
            Column::RunId,
            Column::Sequence,
            Column::CreatedAt,
            Column::EventType,
            Column::Payload,
        ])
        .on_conflict(OnConflict::columns(KEY).do_nothing().to_owned());
    let insert = insert.select_from(events_of_runs);
    Ok(insert.map_err(error::statement)?.take())
}

/// What it means that an event was not inserted, given what is stored in its place.
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
    db: &Session<'_, impl Connection>,
    run_id: &str,
) -> Result<Vec<SkillRunLog>> {
    let mut query = of_run(db, run_id, &LogFilter::new())?;
    keyset::order_by(&mut query, &SEQUENCE, ListOrder::OldestFirst);
    codec::readable(&db.fetch(&query).await?, codec::decode_log)
}

/// Events that [`stretch`] fetches at a time, each perhaps with a payload of the largest size.
const EVENTS_OF_A_STRETCH: u64 = 100;

/// Some events of a run, after the one with this key: its sequence.
pub(crate) async fn stretch(
    db: &Session<'_, impl Connection>,
    run_id: &str,
    filter: &LogFilter,
    order: ListOrder,
    after: Option<Vec<Expr>>,
) -> Result<Stretch<SkillRunLog>> {
    let mut query = of_run(db, run_id, filter)?;
    if let Some(key) = after {
        query.and_where(keyset::beyond(&SEQUENCE, key, order));
    }
    keyset::order_by(&mut query, &SEQUENCE, order);
    query.limit(EVENTS_OF_A_STRETCH);
    let rows = db.fetch(&query).await?;
    Stretch::of(&rows, EVENTS_OF_A_STRETCH, &SEQUENCE, codec::decode_log)
}

/// A page of the events of a run, which goes on from a place.
pub(crate) async fn page(
    db: &Session<'_, impl Connection>,
    run_id: &str,
    filter: &LogFilter,
    order: ListOrder,
    request: &PageRequest,
) -> Result<CursorPage<SkillRunLog>> {
    let list = List {
        query: of_run(db, run_id, filter)?,
        id: ListId::of_logs(run_id, filter, order)?,
        key: &SEQUENCE,
        order,
    };
    list.page(db, request, codec::decode_log).await
}

/// The events of a run that a filter takes.
fn of_run(
    db: &Session<'_, impl Connection>,
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
