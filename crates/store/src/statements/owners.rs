//! Owners and their heartbeats.

use runtrail_audit::{Heartbeat, Owner, OwnerRecord, Result, rules};
use runtrail_db::{Executor, Plan, Planned, backend};
use runtrail_entity::owner::{COLUMN, Column, Entity};
use runtrail_entity::{budget_reservation, skill_run};
use sea_orm::sea_query::{Expr, ExprTrait, InsertStatement, OnConflict, Query, SelectStatement};
use sea_orm::{Iterable, Order};

use crate::settings::Session;
use crate::statements::MAX_BATCH_ROWS;
use crate::{codec, error};

/// Renews the lease of a new or living owner with one statement. A dead one needs two more.
pub(crate) async fn renew(db: &Session<'_, impl Executor>, owner: &Owner) -> Result<Heartbeat> {
    let lease = rules::owner(owner)?;
    let heartbeat = || [(owner, lease, backend::now(db.backend()))];
    let renewal = upsert(db, heartbeat(), is_alive(db))?;
    if db.execute(&Planned(renewal, Plan::Fixed)).await? > 0 {
        return Ok(Heartbeat::Renewed);
    }
    let before = find(db, &owner.id).await?;
    db.execute(&upsert(db, heartbeat(), is_later())?).await?;
    Ok(match before {
        Some(before) if !before.is_alive => Heartbeat::Late {
            last_seen_at: before.last_seen_at,
        },
        // Another heartbeat of this owner has arrived in the meantime.
        _ => Heartbeat::Renewed,
    })
}

/// Inserts owners, or replaces the stored ones that satisfy a condition. A row has the owner, its
/// lease in microseconds and the time of its last heartbeat.
fn upsert<'a>(
    db: &Session<'_, impl Executor>,
    rows: impl IntoIterator<Item = (&'a Owner, i64, Expr)>,
    replaces: Expr,
) -> Result<InsertStatement> {
    let others = Column::iter().filter(|column| !matches!(column, Column::Id));
    let mut insert = Query::insert()
        .into_table(db.owners())
        .columns(Column::iter())
        .on_conflict(
            OnConflict::column(Column::Id)
                .update_columns(others)
                .action_and_where(replaces)
                .to_owned(),
        )
        .take();
    for (owner, lease, last_seen_at) in rows {
        let values = Column::iter().map(|column| match column {
            Column::Id => Expr::val(owner.id.as_str()),
            Column::Label => Expr::val(owner.label.as_str()),
            Column::LeaseMicros => Expr::val(lease),
            Column::LastSeenAt => last_seen_at.clone(),
        });
        insert.values(values).map_err(error::statement)?;
    }
    Ok(insert)
}

/// Whether the time in an upsert is later than the stored one.
fn is_later() -> Expr {
    Expr::col(("excluded", Column::LastSeenAt)).gt(Expr::col((Entity, Column::LastSeenAt)))
}

pub(crate) async fn find(
    db: &Session<'_, impl Executor>,
    owner_id: &str,
) -> Result<Option<OwnerRecord>> {
    rules::owner_id(owner_id)?;
    let mut query = select(db);
    query.and_where(COLUMN.id.eq(owner_id));
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    rows.into_iter().next().map(codec::decode_owner).transpose()
}

/// Reads the owners whose ids are greater than `after`, in the order of their ids.
pub(crate) async fn list(db: &Session<'_, impl Executor>, after: &str) -> Result<Vec<OwnerRecord>> {
    let mut query = select(db);
    query
        .and_where(COLUMN.id.gt(after))
        .order_by((Entity, Column::Id), Order::Asc)
        .limit(MAX_BATCH_ROWS as u64);
    codec::decode_readable(db.fetch(&query).await?, codec::decode_owner)
}

/// Stores owners of another history; their ids are distinct.
pub(crate) async fn copy(db: &Session<'_, impl Executor>, records: &[OwnerRecord]) -> Result<()> {
    let mut rows = Vec::with_capacity(records.len());
    for OwnerRecord {
        owner,
        last_seen_at,
        ..
    } in records
    {
        match rules::owner(owner) {
            Ok(lease) => rows.push((owner, lease, Expr::val(rules::micros(*last_seen_at)))),
            Err(err) => {
                let (id, reason) = (&owner.id, err.to_string());
                tracing::warn!(id, reason, "left out an invalid owner");
            }
        }
    }
    if !rows.is_empty() {
        db.execute(&upsert(db, rows, is_later())?).await?;
    }
    Ok(())
}

/// Selects what [`codec::decode_owner`] reads.
pub(crate) fn select(db: &Session<'_, impl Executor>) -> SelectStatement {
    let is_alive =
        Expr::case(is_alive(db), Expr::Constant(1.into())).finally(Expr::Constant(0.into()));
    Query::select()
        .columns(Column::iter().map(|column| (Entity, column)))
        .expr_as(is_alive.cast_as("bigint"), "is_alive")
        .from(db.owners())
        .take()
}

/// Whether an owner is alive, by the clock of the database.
pub(crate) fn is_alive(db: &Session<'_, impl Executor>) -> Expr {
    let column = |column| Expr::col((Entity, column));
    let now = backend::now(db.backend());
    column(Column::LastSeenAt).gt(now.sub(column(Column::LeaseMicros)))
}

/// Whether the run of the outer query belongs to a living owner.
pub(crate) fn has_living_owner(db: &Session<'_, impl Executor>) -> Expr {
    let mut owner = owner_of_run(db);
    Expr::exists(owner.and_where(is_alive(db)).take())
}

/// Selects the owner of the run of the outer query.
pub(crate) fn owner_of_run(db: &Session<'_, impl Executor>) -> SelectStatement {
    let owner_id = (skill_run::Entity, skill_run::Column::OwnerId);
    Query::select()
        .expr(Expr::Constant(1.into()))
        .from(db.owners())
        .and_where(Expr::col((Entity, Column::Id)).equals(owner_id))
        .take()
}

/// Selects the ids of all owners that have a running run.
pub(crate) fn with_running_runs(db: &Session<'_, impl Executor>) -> SelectStatement {
    Query::select()
        .column((skill_run::Entity, skill_run::Column::OwnerId))
        .from(db.runs())
        .and_where(skill_run::COLUMN.owner_id.is_not_null())
        .and_where(skill_run::COLUMN.finished_at.is_null())
        .take()
}

/// Selects the ids of all owners that have an open reservation.
fn with_open_reservations(db: &Session<'_, impl Executor>) -> SelectStatement {
    Query::select()
        .column((
            budget_reservation::Entity,
            budget_reservation::Column::OwnerId,
        ))
        .from(db.reservations())
        .and_where(budget_reservation::COLUMN.owner_id.is_not_null())
        .and_where(budget_reservation::COLUMN.closed_at.is_null())
        .take()
}

/// Whether an owner is dead, was last seen before `cutoff`, and has neither a running run nor an
/// open reservation.
pub(crate) fn is_unused_since(db: &Session<'_, impl Executor>, cutoff: i64) -> Expr {
    COLUMN
        .last_seen_at
        .lt(cutoff)
        .and(is_alive(db).not())
        .and(COLUMN.id.not_in_subquery(with_running_runs(db)))
        .and(COLUMN.id.not_in_subquery(with_open_reservations(db)))
}

/// Deletes the dead owners that satisfy a condition.
pub(crate) async fn delete(db: &Session<'_, impl Executor>, condition: Expr) -> Result<()> {
    /// The number of owners that one statement deletes.
    const BATCH: u64 = 1_000;

    let due = Query::select()
        .column((Entity, Column::Id))
        .from(db.owners())
        .and_where(condition)
        .limit(BATCH)
        .take();
    let delete = Query::delete()
        .from_table(db.owners())
        .and_where(COLUMN.id.in_subquery(due))
        // Checked again: a heartbeat may have arrived.
        .and_where(is_alive(db).not())
        .take();
    while db.with_fresh_deadline().execute(&delete).await? == BATCH {}
    Ok(())
}
