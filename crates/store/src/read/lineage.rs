//! The ancestors and descendants of a run.

use runtrail_audit::{Result, RunSummary, SkillRun, rules};
use runtrail_db::{Connection, Cost, Plan, Planned, Row, backend};
use runtrail_entity::skill_run::{COLUMN, Column, Entity};
use sea_orm::Order;
use sea_orm::sea_query::{
    Asterisk, CommonTableExpression, Expr, ExprTrait, Query, SelectStatement, UnionType,
    WithClause, WithQuery,
};

use crate::codec;
use crate::settings::Session;

/// Reads the whole chain with one query. `UNION` drops rows that were already found, which ends a
/// cycle. The query has no depth column: a run in a cycle would get a new depth each time, and
/// `UNION` would never drop its row. [`order_chain`] therefore orders the rows.
pub(crate) async fn chain(
    db: &Session<'_, impl Connection>,
    run_id: &str,
) -> Result<Vec<SkillRun>> {
    let run_id = rules::run_id("run_id", run_id)?;
    let query = db.shaped(&db.tables.chain, [run_id.into()], || {
        let runs = db.select_runs();
        Ok(relatives(db, runs, run_id, Column::ParentRunId, Column::Id))
    })?;
    order_chain(run_id, db.fetch(&query).await?, codec::decode_run)
}

/// Like [`chain`], without the run itself and without inputs, output and error.
pub(crate) async fn ancestors(
    db: &Session<'_, impl Connection>,
    run_id: &str,
) -> Result<Vec<RunSummary>> {
    let run_id = rules::run_id("run_id", run_id)?;
    let query = relatives(db, summaries(db), run_id, Column::ParentRunId, Column::Id);
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    let chain = order_chain(run_id, rows, codec::decode_summary)?;
    Ok(chain.into_iter().filter(|run| run.id != run_id).collect())
}

pub(crate) async fn count_children(db: &Session<'_, impl Connection>, run_id: &str) -> Result<u64> {
    let run_id = rules::run_id("run_id", run_id)?;
    let mut query = Query::select()
        .from(db.runs())
        .and_where(COLUMN.parent_run_id.eq(run_id))
        .take();
    let count = query.expr(Expr::col(Asterisk).count()).take();
    db.sum([count], Cost::Varying, Plan::Fixed).await
}

/// The direct children of a run.
pub(crate) async fn children(
    db: &Session<'_, impl Connection>,
    run_id: &str,
) -> Result<Vec<RunSummary>> {
    let run_id = rules::run_id("run_id", run_id)?;
    let mut query = summaries(db);
    query.and_where(COLUMN.parent_run_id.eq(run_id));
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    codec::decode_readable(rows, codec::decode_summary)
}

/// The run and its descendants, found like the ancestors in [`chain`].
pub(crate) async fn subtree(
    db: &Session<'_, impl Connection>,
    run_id: &str,
) -> Result<Vec<RunSummary>> {
    let run_id = rules::run_id("run_id", run_id)?;
    let query = relatives(db, summaries(db), run_id, Column::Id, Column::ParentRunId);
    let rows = db.fetch_long(&Planned(query, Plan::Fixed)).await?;
    codec::decode_readable(rows, codec::decode_summary)
}

fn summaries(db: &Session<'_, impl Connection>) -> SelectStatement {
    Query::select()
        .columns(codec::SUMMARY.map(|column| (Entity, column)))
        .from(db.runs())
        .order_by((Entity, Column::StartedAt), Order::Desc)
        .order_by((Entity, Column::Id), Order::Desc)
        .take()
}

/// Restricts `query` to this run and all runs reached from it. A step leads from a run to the
/// runs whose column `to` equals that run's column `from`.
fn relatives(
    db: &Session<'_, impl Connection>,
    mut query: SelectStatement,
    run_id: &str,
    from: Column,
    to: Column,
) -> WithQuery {
    const FAMILY: &str = "family";

    let links = [(Entity, Column::Id), (Entity, Column::ParentRunId)];
    let is_next = Expr::col((FAMILY, from)).equals((Entity, to));
    let next = Query::select()
        .columns(links)
        .from(db.runs())
        .inner_join(FAMILY, backend::selective(db.backend(), is_next))
        .take();
    let first_and_next = Query::select()
        .columns(links)
        .from(db.runs())
        .and_where(COLUMN.id.eq(run_id))
        .union(UnionType::Distinct, next)
        .take();
    let family = CommonTableExpression::new()
        .table_name(FAMILY)
        .columns([Column::Id, Column::ParentRunId])
        .query(first_and_next)
        .to_owned();
    let in_family = Query::select().column(Column::Id).from(FAMILY).take();
    query
        .and_where(Expr::col((Entity, Column::Id)).in_subquery(in_family))
        .take()
        .with(WithClause::new().recursive(true).cte(family).to_owned())
}

/// Orders the rows along the chain of parents from `run_id`. Damaged runs are left out, but the
/// chain continues as long as the ids of their parents can be read.
fn order_chain<T>(
    run_id: &str,
    rows: Vec<Row>,
    decode: impl Fn(Row) -> Result<T>,
) -> Result<Vec<T>> {
    let text = |row: &Row, column| -> Option<String> {
        let position = codec::position(column);
        row.get(position).ok().flatten()
    };
    let mut chain = Vec::with_capacity(rows.len());
    let mut by_id: Vec<(String, Option<Row>)> = rows
        .into_iter()
        .filter_map(|row| Some((text(&row, Column::Id)?, Some(row))))
        .collect();
    by_id.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    let mut take = |id: String| {
        let found = by_id.binary_search_by(|(other, _)| other.cmp(&id)).ok()?;
        by_id.get_mut(found)?.1.take()
    };
    let mut next = Some(run_id.to_owned());
    while let Some(row) = next.and_then(&mut take) {
        next = text(&row, Column::ParentRunId);
        chain.extend(codec::skip_damaged(decode(row))?);
    }
    Ok(chain)
}
