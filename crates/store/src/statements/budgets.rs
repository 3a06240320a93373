//! Budgets, and what is left of them.

use runtrail_audit::{Budget, BudgetStatus, Result, rules};
use runtrail_db::{Executor, Plan, Planned, backend};
use runtrail_entity::budget::{COLUMN, Column, Entity};
use runtrail_entity::{budget_reservation, budget_usage};
use sea_orm::sea_query::{Cond, Condition, Expr, ExprTrait, OnConflict, Query, SelectStatement};
use sea_orm::{Iterable, ModelTrait, Order};

use crate::settings::Session;
use crate::statements::MAX_BATCH_ROWS;
use crate::{codec, error};

pub(crate) async fn set(db: &Session<'_, impl Executor>, budget: &Budget) -> Result<()> {
    let others = Column::iter().filter(|column| !matches!(column, Column::Name));
    let mut replace = OnConflict::column(Column::Name);
    replace.update_columns(others);
    insert_or(db, budget, replace).await
}

/// Inserts a budget, unless there is one with this name.
pub(crate) async fn insert(db: &Session<'_, impl Executor>, budget: &Budget) -> Result<()> {
    let mut keep = OnConflict::column(Column::Name);
    keep.do_nothing();
    insert_or(db, budget, keep).await
}

async fn insert_or(
    db: &Session<'_, impl Executor>,
    budget: &Budget,
    on_conflict: OnConflict,
) -> Result<()> {
    let row = codec::encode_budget(budget)?;
    let insert = Query::insert()
        .into_table(db.budgets())
        .columns(Column::iter())
        .values(Column::iter().map(|column| Expr::val(row.get(column))))
        .map_err(error::statement)?
        .on_conflict(on_conflict)
        .take();
    db.execute(&Planned(insert, Plan::Fixed)).await?;
    Ok(())
}

pub(crate) async fn remove(db: &Session<'_, impl Executor>, name: &str) -> Result<()> {
    let delete = Query::delete()
        .from_table(db.budgets())
        .and_where(COLUMN.name.eq(rules::budget_name(name)?))
        .take();
    db.execute(&Planned(delete, Plan::Fixed)).await?;
    Ok(())
}

pub(crate) async fn list(db: &Session<'_, impl Executor>) -> Result<Vec<BudgetStatus>> {
    let rows = db.fetch(&Planned(select(db), Plan::Fixed)).await?;
    let rows = codec::decode_readable(rows, codec::decode_counted)?;
    Ok(codec::budget_statuses(rows))
}

pub(crate) async fn find(
    db: &Session<'_, impl Executor>,
    name: &str,
) -> Result<Option<BudgetStatus>> {
    let mut query = select(db);
    query.and_where(COLUMN.name.eq(rules::budget_name(name)?));
    Ok(statuses(db, query).await?.pop())
}

/// Returns the slots of all budgets in which something was used.
pub(crate) async fn slots(db: &Session<'_, impl Executor>) -> Result<Vec<budget_usage::Model>> {
    let query = Query::select()
        .columns(budget_usage::Column::iter())
        .from(db.budget_usage())
        .and_where(budget_usage::COLUMN.used.gt(0))
        .take();
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    rows.into_iter().map(codec::read_slot).collect()
}

/// Makes slots count at least what was used in these.
pub(crate) async fn raise_slots(
    db: &Session<'_, impl Executor>,
    slots: &[budget_usage::Model],
) -> Result<()> {
    use budget_usage::{Column, Entity};

    let given = Expr::col(("excluded", Column::Used));
    let is_more = given.gt(Expr::col((Entity, Column::Used)));
    let mut raise = OnConflict::columns([Column::Budget, Column::SlotStart]);
    raise.update_column(Column::Used).action_and_where(is_more);
    for slots in slots.chunks(MAX_BATCH_ROWS) {
        let mut insert = Query::insert()
            .into_table(db.budget_usage())
            .columns(Column::iter())
            .on_conflict(raise.clone())
            .take();
        for slot in slots {
            let values = Column::iter().map(|column| match column {
                Column::Reserved => Expr::val(0_i64),
                column => Expr::val(slot.get(column)),
            });
            insert.values(values).map_err(error::statement)?;
        }
        db.execute(&insert).await?;
    }
    Ok(())
}

/// Returns the budgets whose scope includes a reservation.
pub(crate) async fn of_reservation(
    db: &Session<'_, impl Executor>,
    row: &budget_reservation::Model,
) -> Result<Vec<BudgetStatus>> {
    let mut query = select(db);
    query.cond_where(includes(row));
    statuses(db, query).await
}

fn includes(row: &budget_reservation::Model) -> Condition {
    let of = |scope, id: &str| COLUMN.scope.eq(scope).and(COLUMN.scope_id.eq(id));
    Cond::any()
        .add(COLUMN.scope.eq("everything"))
        .add(of("caller", &row.caller_id))
        .add(of("skill", &row.skill_id))
        .add(of("channel", &row.channel_id))
}

async fn statuses(
    db: &Session<'_, impl Executor>,
    query: SelectStatement,
) -> Result<Vec<BudgetStatus>> {
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    let rows = rows.into_iter().map(codec::decode_counted);
    Ok(codec::budget_statuses(rows.collect::<Result<_>>()?))
}

/// Selects budgets with their slots, for [`codec::decode_counted`].
fn select(db: &Session<'_, impl Executor>) -> SelectStatement {
    use budget_usage::Column::{Budget, Reserved, SlotStart, Used};

    let slot = |column| Expr::col((budget_usage::Entity, column));
    Query::select()
        .columns(Column::iter().map(|column| (Entity, column)))
        .expr(backend::now(db.backend()))
        .exprs([SlotStart, Used, Reserved].map(slot))
        .from(db.budgets())
        .left_join(
            db.budget_usage(),
            slot(Budget).equals((Entity, Column::Name)),
        )
        .order_by((Entity, Column::Name), Order::Asc)
        .order_by((budget_usage::Entity, SlotStart), Order::Asc)
        .take()
}
