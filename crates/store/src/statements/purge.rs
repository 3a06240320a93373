//! Deleting old runs with their events, and dead owners without running runs.

use chrono::{DateTime, Utc};
use runtrail_audit::{Error, PurgeBatch, PurgeSize, PurgeSummary, Result, SkippedRun, rules};
use runtrail_db::{Connection, Row, backend, keyset};
use runtrail_entity::{budget_reservation, owner, skill_run, skill_run_log};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement, TableRef};
use sea_orm::{ColumnTrait, Order, Value};

use crate::settings::Session;
use crate::statements::{owners, reservations};
use crate::{codec, error};

/// The number of runs per batch: small enough not to delay other writers to a SQLite file.
const BATCH_RUNS: u64 = 100;

/// The maximum number of events that one statement deletes, which bounds its duration. A statement
/// exceeds it only for a single run with more events.
const STATEMENT_EVENTS: u64 = 1_000;

/// The sort key of a purge.
const KEY: [skill_run::Column; 2] = [skill_run::Column::FinishedAt, skill_run::Column::Id];

/// Reads from `reader` what is due, and deletes it with `db`.
pub(crate) async fn older_than<C: Connection>(
    db: &Session<'_, C>,
    reader: &Session<'_, C>,
    cutoff: DateTime<Utc>,
    on_batch: &(dyn Fn(PurgeBatch) + Sync),
) -> Result<PurgeSummary> {
    use budget_reservation::Column as Reservation;

    let cutoff = rules::micros(cutoff);
    let closed = || reservations::is_closed_before(cutoff);
    let abandoned = || reservations::is_abandoned_before(db, cutoff);
    let unused = || owners::is_unused_since(db, cutoff);
    // Deletes wait for other writers, even if they find nothing.
    let due = reader.shaped(&db.tables.due, [cutoff; 4].map(Value::from), || {
        Ok(have_values([
            earliest(skill_run::Column::FinishedAt, db.runs(), is_due(cutoff)),
            earliest(Reservation::ClosedAt, db.reservations(), closed()),
            earliest(Reservation::ReservedAt, db.reservations(), abandoned()),
            earliest(owner::Column::LastSeenAt, db.owners(), unused()),
        ]))
    })?;
    let mut are_due = [false; 4];
    for row in reader.fetch(&due).await? {
        for (position, is_due) in are_due.iter_mut().enumerate() {
            *is_due = row.get::<i64>(position).map_err(error::database)? != 0;
        }
    }
    let [has_runs, has_closed, has_abandoned, has_unused] = are_due;
    let summary = match has_runs {
        true => delete_runs(db, cutoff, on_batch).await?,
        false => PurgeSummary::default(),
    };
    if has_closed {
        reservations::delete(db, closed()).await?;
    }
    if has_abandoned {
        reservations::delete(db, abandoned()).await?;
    }
    if has_unused {
        owners::delete(db, unused()).await?;
    }
    Ok(summary)
}

/// Selects the earliest time in a column of the rows that satisfy a condition, or NULL.
///
/// With MIN, PostgreSQL reads the index of the column, and plans the statement only once. With
/// EXISTS it might read all rows, and with a limit it would plan the statement for each call.
fn earliest(time: impl ColumnTrait, table: TableRef, condition: Expr) -> SelectStatement {
    Query::select()
        .expr(Expr::col(time.as_column_ref()).min())
        .from(table)
        .and_where(condition)
        .take()
}

/// Selects, for each of these queries of one value, 1 if it finds one and 0 otherwise.
fn have_values<const N: usize>(queries: [SelectStatement; N]) -> SelectStatement {
    let has_value = |query: SelectStatement| {
        let value = Expr::SubQuery(None, Box::new(query.into()));
        // A number, since SQLite has no booleans.
        Expr::case(value.is_not_null(), Expr::Constant(1.into()))
            .finally(Expr::Constant(0.into()))
            .cast_as("bigint")
    };
    Query::select().exprs(queries.map(has_value)).take()
}

async fn delete_runs(
    db: &Session<'_, impl Connection>,
    cutoff: i64,
    on_batch: &(dyn Fn(PurgeBatch) + Sync),
) -> Result<PurgeSummary> {
    verify_cascade(db).await?;
    let mut summary = PurgeSummary::default();
    let mut after = None;
    loop {
        let db = &db.with_fresh_deadline();
        let rows = due_runs(db, cutoff, after).await?;
        let Some(last) = rows.last() else {
            return Ok(summary);
        };
        // The next batch begins after this run even if it can't be deleted, so the purge
        // terminates.
        after = Some(keyset::position(last, &KEY)?);
        let mut batch = PurgeBatch::default();
        let runs = decode_due(&rows, &mut batch)?;
        for runs in split_by_events(&runs) {
            delete(db, cutoff, runs, &mut batch).await?;
        }
        for run in &batch.skipped {
            tracing::warn!(
                table = "skill_runs",
                id = run.run_id,
                reason = run.reason,
                "skipped a run that can't be purged"
            );
        }
        summary.runs += batch.runs;
        summary.skipped += batch.skipped.len() as u64;
        on_batch(batch);
    }
}

/// Fails if the deletion of a run would leave its events behind.
async fn verify_cascade(db: &Session<'_, impl Connection>) -> Result<()> {
    let migrator = db.migrator();
    let verify = || async {
        let verified = migrator.verify_cascade(db.connection()).await;
        verified.map_err(error::migration)
    };
    db.attempt(verify).await
}

/// Whether a run is due.
fn is_due(cutoff: i64) -> Expr {
    use skill_run::{COLUMN, Column};

    COLUMN
        .finished_at
        .lt(cutoff)
        .and(codec::is_whole_number(Column::FinishedAt))
}

/// Counts what [`older_than`] would delete.
pub(crate) async fn measure(
    db: &Session<'_, impl Connection>,
    cutoff: DateTime<Utc>,
) -> Result<PurgeSize> {
    use skill_run::Column;

    let due = Query::select()
        .from(db.runs())
        .and_where(is_due(rules::micros(cutoff)))
        .take();
    let events = Query::select()
        .from(db.logs())
        .and_where(
            skill_run_log::COLUMN
                .run_id
                .in_subquery(due.clone().column(Column::Id).take()),
        )
        .take();
    let mut size = PurgeSize::default();
    size.runs = db.count(due).await?;
    size.events = db.count(events).await?;
    Ok(size)
}

/// A run that is due, and the number of its events.
struct Due {
    id: String,
    events: u64,
}

/// Reads the next runs that are due, damaged rows included.
async fn due_runs(
    db: &Session<'_, impl Connection>,
    cutoff: i64,
    after: Option<Vec<Expr>>,
) -> Result<Vec<Row>> {
    use skill_run::{Column, Entity};

    let events = Query::select()
        .expr(Expr::col(skill_run_log::Column::RunId).count())
        .from(db.logs())
        .and_where(
            Expr::col((skill_run_log::Entity, skill_run_log::Column::RunId))
                .equals((Entity, Column::Id)),
        )
        .take();
    let mut query = Query::select()
        .columns(KEY)
        .expr_as(Expr::SubQuery(None, Box::new(events.into())), EVENTS)
        .from(db.runs())
        .and_where(is_due(cutoff))
        .order_by(Column::FinishedAt, Order::Asc)
        .order_by(Column::Id, Order::Asc)
        .limit(BATCH_RUNS)
        .take();
    if let Some(key) = after {
        query.and_where(keyset::is_after(
            &KEY,
            key,
            runtrail_audit::ListOrder::OldestFirst,
        ));
    }
    db.fetch(&query).await
}

/// The alias of the number of a run's events.
const EVENTS: &str = "events";

/// Decodes these rows; damaged rows are added to the skipped runs of the batch.
fn decode_due(rows: &[Row], batch: &mut PurgeBatch) -> Result<Vec<Due>> {
    let mut runs = Vec::with_capacity(rows.len());
    for row in rows {
        match codec::read_finish(row) {
            Ok((id, _)) => {
                let events: i64 = row.get(EVENTS).map_err(error::database)?;
                // A count is never negative.
                let events = events.unsigned_abs();
                runs.push(Due { id, events });
            }
            Err(Error::Corrupt {
                id, column, reason, ..
            }) => batch
                .skipped
                .push(SkippedRun::new(id, format!("{column} {reason}"))),
            Err(err) => return Err(err),
        }
    }
    Ok(runs)
}

/// Splits runs so that one statement deletes at most [`STATEMENT_EVENTS`], or a single run.
fn split_by_events(runs: &[Due]) -> impl Iterator<Item = &[Due]> {
    let mut rest = runs;
    std::iter::from_fn(move || {
        let mut events = 0;
        let fitting = rest.iter().take_while(|run| {
            events += run.events;
            events <= STATEMENT_EVENTS
        });
        let chunk = fitting.count().max(1).min(rest.len());
        let (chunk, others) = rest.split_at(chunk);
        rest = others;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Deletes these runs with their events. A run whose deletion the database refuses stays, with all
/// its events.
async fn delete(
    db: &Session<'_, impl Connection>,
    cutoff: i64,
    runs: &[Due],
    batch: &mut PurgeBatch,
) -> Result<()> {
    let ids: Vec<&str> = runs.iter().map(|run| run.id.as_str()).collect();
    match delete_batch(db, cutoff, &ids).await {
        Ok(deleted) => {
            batch.runs += deleted;
            if deleted < ids.len() as u64 {
                skip_undeleted(db, cutoff, &ids, batch).await?;
            }
        }
        // On PostgreSQL an error aborts the caller's transaction, so no further statement can run
        // in it.
        Err(err) if !error::is_refused(&err) || db.connection().pool().is_none() => {
            return Err(err);
        }
        Err(_) => {
            for id in ids {
                match delete_batch(db, cutoff, &[id]).await {
                    Ok(0) => skip_undeleted(db, cutoff, &[id], batch).await?,
                    Ok(deleted) => batch.runs += deleted,
                    Err(err) if error::is_refused(&err) => {
                        batch.skipped.push(SkippedRun::new(id, error::cause(&err)))
                    }
                    Err(err) => return Err(err),
                }
            }
        }
    }
    Ok(())
}

/// Reports as skipped the runs that are still due although the deletion reported no error, for
/// example because of a trigger. All others were deleted, or started again by other callers.
async fn skip_undeleted(
    db: &Session<'_, impl Connection>,
    cutoff: i64,
    ids: &[&str],
    batch: &mut PurgeBatch,
) -> Result<()> {
    use skill_run::{COLUMN, Column};

    let undeleted = Query::select()
        .column(Column::Id)
        .from(db.runs())
        .and_where(COLUMN.id.in_subquery(backend::unfold(db.backend(), ids)?))
        .and_where(COLUMN.finished_at.lt(cutoff))
        .take();
    for row in db.fetch(&undeleted).await? {
        let id: String = row.get("id").map_err(error::database)?;
        batch.skipped.push(SkippedRun::new(
            id,
            "the database did not delete it and reported no error; a trigger may have prevented it",
        ));
    }
    Ok(())
}

/// Deletes runs with one statement, which also deletes their events through the foreign key: all of
/// them, or none. If a host's row refers to a run, both the run and its events remain.
///
/// Every statement checks again that the run is due, since the run may have been purged and started
/// again in the meantime.
async fn delete_batch(db: &Session<'_, impl Connection>, cutoff: i64, ids: &[&str]) -> Result<u64> {
    use skill_run::COLUMN;

    let batch = backend::unfold(db.backend(), ids)?;
    let mut delete = Query::delete()
        .from_table(db.runs())
        .and_where(COLUMN.id.in_subquery(batch.clone()))
        .and_where(COLUMN.finished_at.lt(cutoff))
        .take();
    let enforced = backend::enforces_foreign_keys(db.backend());
    if let Some(enforced) = &enforced {
        delete.and_where(enforced.clone());
    }
    let deleted = db.execute(&delete).await?;
    match enforced {
        Some(enforced) if deleted < ids.len() as u64 => {
            Ok(deleted + delete_without_foreign_keys(db, cutoff, &batch, enforced.not()).await?)
        }
        _ => Ok(deleted),
    }
}

/// Deletes events, then the runs that have none left, on a SQLite connection whose host has
/// disabled foreign keys; does nothing on any other connection. A host's row that refers to a run
/// then doesn't prevent its deletion.
async fn delete_without_foreign_keys(
    db: &Session<'_, impl Connection>,
    cutoff: i64,
    batch: &SelectStatement,
    not_enforced: Expr,
) -> Result<u64> {
    use skill_run::{COLUMN, Column, Entity};

    let due = Query::select()
        .column(Column::Id)
        .from(db.runs())
        .and_where(COLUMN.id.in_subquery(batch.clone()))
        .and_where(COLUMN.finished_at.lt(cutoff))
        .take();
    let key = [
        skill_run_log::Column::RunId,
        skill_run_log::Column::Sequence,
    ];
    let some_events = Query::select()
        .columns(key)
        .from(db.logs())
        .and_where(skill_run_log::COLUMN.run_id.in_subquery(due))
        .limit(STATEMENT_EVENTS)
        .take();
    let delete_events = Query::delete()
        .from_table(db.logs())
        .and_where(Expr::tuple(key.map(Expr::col)).in_subquery(some_events))
        .and_where(not_enforced.clone())
        .take();
    while db.execute(&delete_events).await? == STATEMENT_EVENTS {}

    let events = Query::select()
        .expr(Expr::val(1))
        .from(db.logs())
        .and_where(
            Expr::col((skill_run_log::Entity, skill_run_log::Column::RunId))
                .equals((Entity, Column::Id)),
        )
        .take();
    let delete_runs = Query::delete()
        .from_table(db.runs())
        .and_where(COLUMN.id.in_subquery(batch.clone()))
        .and_where(COLUMN.finished_at.lt(cutoff))
        .and_where(Expr::exists(events).not())
        .and_where(not_enforced)
        .take();
    db.execute(&delete_runs).await
}
