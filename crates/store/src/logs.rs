//! Writing the events of a run, and reading them.

use runtrail_audit::{Error, Result, SkillRunLog, rules};
use runtrail_entity::skill_run;
use runtrail_entity::skill_run_log::{COLUMN, Column};
use sea_orm::sea_query::{Expr, LockType, OnConflict, Query};
use sea_orm::{ConnectionTrait, Order};

use crate::session::Session;
use crate::{codec, error};

pub(crate) async fn append(
    db: &Session<'_, impl ConnectionTrait>,
    event: &SkillRunLog,
) -> Result<()> {
    let row = codec::encode_log(event, db.clock.now(), &db.limits)?;

    // Selecting from the run asks whether it is there in the same statement. To let the foreign key refuse
    // would end a host's transaction on PostgreSQL.
    let of_known_run = Query::select()
        .expr(Expr::val(row.run_id.as_str()))
        .expr(Expr::val(row.sequence))
        .expr(Expr::val(row.created_at))
        .expr(Expr::val(row.event_type.as_str()))
        .expr(Expr::val(row.payload.as_str()))
        .from(db.runs())
        .and_where(skill_run::COLUMN.id.eq(row.run_id.as_str()))
        // PostgreSQL then waits for whoever is deleting the run, and finds it or not. SQLite has no such locks.
        .lock(LockType::KeyShare)
        .take();
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
        .on_conflict(
            OnConflict::columns([Column::RunId, Column::Sequence])
                .do_nothing()
                .to_owned(),
        );
    insert.select_from(of_known_run).map_err(error::statement)?;
    if db.execute(&insert).await? > 0 {
        return Ok(());
    }

    let mut query = db.select_logs();
    query
        .and_where(COLUMN.run_id.eq(row.run_id.as_str()))
        .and_where(COLUMN.sequence.eq(row.sequence));
    let stored = db.fetch(&query).await?;
    match stored.first().map(codec::read_log).transpose()? {
        Some(stored) if codec::is_same_event(&row, &stored) => Ok(()),
        Some(_) => Err(Error::Conflict {
            run_id: row.run_id,
            sequence: event.sequence,
        }),
        None => Err(Error::not_found(&row.run_id)),
    }
}

pub(crate) async fn list(
    db: &Session<'_, impl ConnectionTrait>,
    run_id: &str,
) -> Result<Vec<SkillRunLog>> {
    rules::run_id("run_id", run_id)?;
    let mut query = db.select_logs();
    query
        .and_where(COLUMN.run_id.eq(run_id))
        .order_by(Column::Sequence, Order::Asc);
    codec::readable(&db.fetch(&query).await?, codec::decode_log)
}
