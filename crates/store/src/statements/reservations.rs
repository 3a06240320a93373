//! Reservations. Triggers check them against the budgets, and count them.

use std::collections::HashMap;

use runtrail_audit::{Amount, BudgetStatus, Error, Result, Spending, rules};
use runtrail_db::{Executable, Executor, Plan, Planned, backend};
use runtrail_entity::budget_reservation::{COLUMN, Column, Entity, Model};
use runtrail_entity::{budget_charge, budget_usage, owner};
use sea_orm::sea_query::{
    Expr, ExprTrait, InsertStatement, LockBehavior, LockType, OnConflict, Query, UpdateStatement,
};
use sea_orm::{IdenStatic, Iterable};
use serde::Serialize;

use crate::settings::Session;
use crate::statements::{MAX_BATCH_ROWS, budgets, labels, owners};
use crate::{codec, error};

/// What was used under a reservation.
#[derive(Debug, Serialize)]
pub(crate) struct Settlement {
    pub(crate) id: String,
    actual_tokens: i64,
    actual_cost_micros: i64,
}

impl Settlement {
    pub(crate) fn encode(id: &str, actual: &Spending) -> Result<Self> {
        Ok(Self {
            id: rules::run_id("id", id)?.to_owned(),
            actual_tokens: rules::amount("tokens", actual.tokens)?,
            actual_cost_micros: rules::amount("cost_micros", actual.cost_micros)?,
        })
    }

    fn is_stored_in(&self, stored: &Model) -> bool {
        stored.actual_tokens == Some(self.actual_tokens)
            && stored.actual_cost_micros == Some(self.actual_cost_micros)
    }
}

/// The columns that an insert sets, besides [`Column::ReservedAt`].
const REQUEST: [Column; 8] = [
    Column::Id,
    Column::OwnerId,
    Column::RunId,
    Column::CallerId,
    Column::SkillId,
    Column::ChannelId,
    Column::Tokens,
    Column::CostMicros,
];

/// The values of [`REQUEST`].
type Request<'a> = (
    &'a str,
    Option<&'a str>,
    Option<&'a str>,
    &'a str,
    &'a str,
    &'a str,
    i64,
    i64,
);

fn request(row: &Model) -> Request<'_> {
    (
        &row.id,
        row.owner_id.as_deref(),
        row.run_id.as_deref(),
        &row.caller_id,
        &row.skill_id,
        &row.channel_id,
        row.tokens,
        row.cost_micros,
    )
}

pub(crate) async fn reserve_one(db: &Session<'_, impl Executor>, row: &Model) -> Result<()> {
    for _ in 0..labels::TRIES {
        if let Some(Some(answer)) = reserve_many(db, &[row]).await?.pop() {
            return answer;
        }
    }
    Err(Error::Busy {
        source: "other callers are changing the budgets at the same time".into(),
    })
}

/// Makes reservations with distinct ids, all for the same caller, skill and channel. Returns the
/// result of each; `None` if it was refused, but a budget has been renewed or another reservation
/// released since.
pub(crate) async fn reserve_many(
    db: &Session<'_, impl Executor>,
    rows: &[&Model],
) -> Result<Vec<Option<Result<()>>>> {
    let written = db.execute(&insert_many(db, rows)?).await?;
    if written == rows.len() as u64 {
        return Ok(rows.iter().map(|_| Some(Ok(()))).collect());
    }
    let stored = confirmed(db, rows.iter().map(|row| &row.id)).await?;
    let budgets = match rows {
        [first, ..] => budgets::of_reservation(db, first).await?,
        [] => Vec::new(),
    };
    let answer = |row: &&Model| match stored.get(&row.id) {
        Some(stored) if codec::is_same_request(row, stored) => Some(Ok(())),
        Some(_) => Some(Err(conflict(&row.id))),
        None => {
            let exceeded = budgets.iter().find(|budget| !fits(row, budget))?;
            Some(Err(Error::OverBudget {
                budget: exceeded.budget.name.clone(),
                left: exceeded.left(),
                renews_at: exceeded.renews_at,
            }))
        }
    };
    Ok(rows.iter().map(answer).collect())
}

/// Whether a budget has enough left, as the triggers decide it.
fn fits(row: &Model, status: &BudgetStatus) -> bool {
    let requested = match status.budget.limit {
        Amount::CostMicros(_) => row.cost_micros,
        _ => row.tokens,
    };
    Ord::max(requested.unsigned_abs(), 1) <= status.left().number()
}

/// Inserts reservations, except those that a budget refuses and those whose ids are already stored.
fn insert_many(db: &Session<'_, impl Executor>, rows: &[&Model]) -> Result<InsertStatement> {
    let values: Vec<_> = rows.iter().map(|row| request(row)).collect();
    let fields = REQUEST.iter().zip(0..).map(|(column, place): (_, i32)| {
        let field = backend::field(db.backend(), place);
        match column {
            Column::Tokens | Column::CostMicros => field.cast_as("bigint"),
            _ => field,
        }
    });
    let reservations = Query::select()
        .exprs(fields)
        .expr(backend::now(db.backend()))
        .from(backend::unfold_rows(db.backend(), &values)?)
        // Without a WHERE, SQLite parses the ON of ON CONFLICT as that of a join.
        .and_where(Expr::Constant(true.into()))
        .take();
    let mut insert = Query::insert()
        .into_table(db.reservations())
        .columns(REQUEST.into_iter().chain([Column::ReservedAt]))
        .on_conflict(OnConflict::column(Column::Id).do_nothing().to_owned())
        .take();
    let reservations = db.with_lock_timeout(reservations);
    insert.select_from(reservations).map_err(error::statement)?;
    Ok(insert)
}

pub(crate) async fn settle_one(
    db: &Session<'_, impl Executor>,
    settlement: &Settlement,
) -> Result<()> {
    let mut answers = settle_many(db, &[settlement]).await?;
    answers.pop().unwrap_or(Ok(()))
}

/// Settles reservations with distinct ids. Returns the result of each.
pub(crate) async fn settle_many(
    db: &Session<'_, impl Executor>,
    settlements: &[&Settlement],
) -> Result<Vec<Result<()>>> {
    let written = db.execute(&update_many(db, settlements)?).await?;
    if written == settlements.len() as u64 {
        return Ok(settlements.iter().map(|_| Ok(())).collect());
    }
    let stored = confirmed(db, settlements.iter().map(|settlement| &settlement.id)).await?;
    let answer = |settlement: &&Settlement| match stored.get(&settlement.id) {
        Some(stored) if settlement.is_stored_in(stored) => Ok(()),
        Some(stored) if stored.actual_tokens.is_some() => Err(conflict(&settlement.id)),
        // Also if it was made after the update, which therefore didn't find it.
        _ => Err(Error::UnknownReservation {
            id: settlement.id.clone(),
        }),
    };
    Ok(settlements.iter().map(answer).collect())
}

/// Settles reservations, except those that are already settled.
fn update_many(
    db: &Session<'_, impl Executor>,
    settlements: &[&Settlement],
) -> Result<UpdateStatement> {
    let given = |column: Column| backend::field(db.backend(), column.as_str());
    let number = |column| given(column).cast_as("bigint");
    let now = backend::now(db.backend());
    let closed_at = Expr::col((Entity, Column::ClosedAt)).if_null(now);
    let mut update = Query::update()
        .table(db.reservations())
        .value(Column::ClosedAt, closed_at)
        .value(Column::ActualTokens, number(Column::ActualTokens))
        .value(Column::ActualCostMicros, number(Column::ActualCostMicros))
        .from(backend::unfold_rows(db.backend(), settlements)?)
        .and_where(Expr::col((Entity, Column::Id)).eq(given(Column::Id)))
        .and_where(COLUMN.actual_tokens.is_null())
        .take();
    if let Some(lock_timeout) = db.lock_timeout_table() {
        update.from(lock_timeout);
    }
    Ok(update)
}

fn conflict(id: &str) -> Error {
    Error::ReservationConflict { id: id.to_owned() }
}

/// Reads stored reservations after a write that has not written all of them, with the lock of
/// [`confirmed_run`](crate::statements::runs::confirmed_run).
async fn confirmed(
    db: &Session<'_, impl Executor>,
    ids: impl Iterator<Item = &String>,
) -> Result<HashMap<String, Model>> {
    let ids: Vec<_> = ids.collect();
    let query = Query::select()
        .columns(Column::iter().map(|column| (Entity, column)))
        .from(db.reservations())
        .and_where(COLUMN.id.in_subquery(backend::unfold(db.backend(), &ids)?))
        .take();
    let mut query = db.with_lock_timeout(query);
    query.lock(LockType::KeyShare);
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    let rows = rows.into_iter().map(codec::read_reservation);
    rows.map(|row| row.map(|row| (row.id.clone(), row)))
        .collect()
}

/// Releases the open reservations of dead owners.
pub(crate) async fn release_of_dead(db: &Session<'_, impl Executor>) -> Result<()> {
    let dead = Query::select()
        .column((owner::Entity, owner::Column::Id))
        .from(db.owners())
        .and_where(owners::is_alive(db).not())
        .take();
    let mut due = Query::select()
        .column((Entity, Column::Id))
        .from(db.reservations())
        .and_where(COLUMN.closed_at.is_null())
        .and_where(COLUMN.owner_id.in_subquery(dead))
        .limit(MAX_BATCH_ROWS as u64)
        .take();
    if backend::has_row_locks(db.backend()) {
        due.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
    }
    let release = Query::update()
        .table(db.reservations())
        .value(Column::ClosedAt, backend::now(db.backend()))
        .and_where(COLUMN.id.in_subquery(due))
        .and_where(COLUMN.closed_at.is_null())
        .take();
    repeat(db, Planned(release, Plan::Fixed)).await
}

/// Whether a reservation was closed before `cutoff`.
pub(crate) fn is_closed_before(cutoff: i64) -> Expr {
    COLUMN.closed_at.lt(cutoff)
}

/// Whether a reservation is open, has no owner, was made before `cutoff` and no longer counts.
pub(crate) fn is_abandoned_before(db: &Session<'_, impl Executor>, cutoff: i64) -> Expr {
    use {budget_charge as charge, budget_usage as usage};

    let counts = Query::select()
        .expr(Expr::Constant(1.into()))
        .from(db.budget_charges())
        .inner_join(
            db.budget_usage(),
            Expr::col((usage::Entity, usage::Column::Budget))
                .equals((charge::Entity, charge::Column::Budget))
                .and(
                    Expr::col((usage::Entity, usage::Column::SlotStart))
                        .equals((charge::Entity, charge::Column::SlotStart)),
                ),
        )
        .and_where(
            Expr::col((charge::Entity, charge::Column::ReservationId)).equals((Entity, Column::Id)),
        )
        .take();
    COLUMN
        .closed_at
        .is_null()
        .and(COLUMN.owner_id.is_null())
        .and(COLUMN.reserved_at.lt(cutoff))
        .and(Expr::exists(counts).not())
}

/// Deletes the reservations that satisfy a condition.
pub(crate) async fn delete(db: &Session<'_, impl Executor>, condition: Expr) -> Result<()> {
    let due = Query::select()
        .column((Entity, Column::Id))
        .from(db.reservations())
        .and_where(condition)
        .limit(MAX_BATCH_ROWS as u64)
        .take();
    let delete = Query::delete()
        .from_table(db.reservations())
        .and_where(COLUMN.id.in_subquery(due))
        .take();
    repeat(db, delete).await
}

/// Repeats a statement that writes up to [`MAX_BATCH_ROWS`] rows until it finds no more.
async fn repeat(db: &Session<'_, impl Executor>, statement: impl Executable) -> Result<()> {
    while db.with_fresh_deadline().execute(&statement).await? == MAX_BATCH_ROWS as u64 {}
    Ok(())
}
