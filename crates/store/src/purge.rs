//! Deleting old runs with their events.

use chrono::{DateTime, Utc};
use runtrail_audit::{PurgeSize, Result, rules};
use runtrail_entity::{skill_run, skill_run_log};
use sea_orm::Order;
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};

use crate::connection::Connection;
use crate::session::Session;
use crate::{backend, codec};

/// Runs of one batch: few enough that other writers to a SQLite file don't notice.
const RUNS_AT_ONCE: u64 = 100;

/// Events that one statement deletes, since a single run may have millions; of the largest, some seconds' worth.
const EVENTS_AT_ONCE: u64 = 1_000;

/// How often a batch is tried again in vain: others may be purging the same runs, or writing events to them.
const ATTEMPTS: usize = 3;

pub(crate) async fn older_than(
    db: &Session<'_, impl Connection>,
    cutoff: DateTime<Utc>,
    on_batch: &(dyn Fn(u64) + Sync),
) -> Result<u64> {
    let cutoff = rules::micros(cutoff);
    let mut purged = 0;
    let mut after = Position::START;
    loop {
        let db = &db.with_fresh_deadline();
        let due = due_runs(db, cutoff, &after).await?;
        let Some(last) = due.last() else {
            return Ok(purged);
        };
        after = last.clone();
        let ids: Vec<String> = due.into_iter().map(|run| run.id).collect();
        let batch = backend::unfold(db.connection(), &ids)?;
        let deleted = delete(db, cutoff, &batch, ids.len() as u64).await?;
        purged += deleted;
        on_batch(deleted);
    }
}

/// What [`older_than`] would delete.
pub(crate) async fn measure(
    db: &Session<'_, impl Connection>,
    cutoff: DateTime<Utc>,
) -> Result<PurgeSize> {
    use skill_run::{COLUMN, Column};

    let cutoff = rules::micros(cutoff);
    let due = Query::select()
        .from(db.runs())
        .and_where(COLUMN.finished_at.lt(cutoff))
        .and_where(codec::is_whole_number(Column::FinishedAt))
        .take();
    let events = Query::select()
        .from(db.logs())
        .and_where(
            skill_run_log::COLUMN
                .run_id
                .in_subquery(due.clone().column(Column::Id).take()),
        )
        .take();
    Ok(PurgeSize {
        runs: db.count(due).await?,
        events: db.count(events).await?,
    })
}

/// A place in the order in which runs are purged. Going on from it, rather than from the start, ends the purge
/// even if a run can't be deleted.
#[derive(Clone)]
struct Position {
    finished_at: i64,
    id: String,
}

impl Position {
    const START: Self = Self {
        finished_at: i64::MIN,
        id: String::new(),
    };
}

async fn due_runs(
    db: &Session<'_, impl Connection>,
    cutoff: i64,
    after: &Position,
) -> Result<Vec<Position>> {
    use skill_run::{COLUMN, Column};

    let query = Query::select()
        .columns([Column::FinishedAt, Column::Id])
        .from(db.runs())
        .and_where(COLUMN.finished_at.lt(cutoff))
        .and_where(codec::is_whole_number(Column::FinishedAt))
        // In this form the index on finished_at is entered at the right place.
        .and_where(COLUMN.finished_at.gte(after.finished_at))
        .and_where(
            COLUMN
                .finished_at
                .gt(after.finished_at)
                .or(COLUMN.id.gt(after.id.as_str())),
        )
        .order_by(Column::FinishedAt, Order::Asc)
        .order_by(Column::Id, Order::Asc)
        .limit(RUNS_AT_ONCE)
        .take();
    let rows = db.fetch(&query).await?;
    let due = codec::readable(&rows, |row| {
        let (id, finished_at) = codec::read_finish(row)?;
        Ok(Position { finished_at, id })
    })?;
    if due.is_empty()
        && let Some(row) = rows.first()
    {
        // A whole batch that can't be read, and no place to go on from.
        codec::read_finish(row)?;
    }
    Ok(due)
}

/// Deletes the events of these runs, then the runs that have none left.
///
/// Every statement asks again whether the run is due: its id may have been purged and started anew meanwhile.
async fn delete(
    db: &Session<'_, impl Connection>,
    cutoff: i64,
    batch: &SelectStatement,
    runs: u64,
) -> Result<u64> {
    let mut deleted = 0;
    let mut attempts = 0;
    while deleted < runs && attempts < ATTEMPTS {
        while delete_events(db, cutoff, batch).await? == EVENTS_AT_ONCE {}
        let gone = delete_runs_without_events(db, cutoff, batch).await?;
        deleted += gone;
        if gone == 0 {
            attempts += 1;
        }
    }
    Ok(deleted)
}

async fn delete_events(
    db: &Session<'_, impl Connection>,
    cutoff: i64,
    batch: &SelectStatement,
) -> Result<u64> {
    use skill_run_log::{COLUMN, Column};

    let key = [Column::RunId, Column::Sequence];
    let due = Query::select()
        .column(skill_run::Column::Id)
        .from(db.runs())
        .and_where(skill_run::COLUMN.id.in_subquery(batch.clone()))
        .and_where(skill_run::COLUMN.finished_at.lt(cutoff))
        .take();
    let some = Query::select()
        .columns(key)
        .from(db.logs())
        .and_where(COLUMN.run_id.in_subquery(due))
        .limit(EVENTS_AT_ONCE)
        .take();
    let delete = Query::delete()
        .from_table(db.logs())
        .and_where(Expr::tuple(key.map(Expr::col)).in_subquery(some))
        .take();
    db.execute(&delete).await
}

async fn delete_runs_without_events(
    db: &Session<'_, impl Connection>,
    cutoff: i64,
    batch: &SelectStatement,
) -> Result<u64> {
    use skill_run::{COLUMN, Column, Entity};

    // The foreign key would see to late events; but on SQLite a host may have switched foreign keys off.
    let events = Query::select()
        .expr(Expr::val(1))
        .from(db.logs())
        .and_where(
            Expr::col((skill_run_log::Entity, skill_run_log::Column::RunId))
                .equals((Entity, Column::Id)),
        )
        .take();
    let delete = Query::delete()
        .from_table(db.runs())
        .and_where(COLUMN.id.in_subquery(batch.clone()))
        .and_where(COLUMN.finished_at.lt(cutoff))
        .and_where(Expr::exists(events).not())
        .take();
    db.execute(&delete).await
}
