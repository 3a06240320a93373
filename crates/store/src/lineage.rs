//! A run and its ancestors.

use std::collections::HashMap;

use runtrail_audit::{Result, SkillRun, rules};
use runtrail_entity::skill_run::{COLUMN, Column, Entity};
use sea_orm::sea_query::{CommonTableExpression, Expr, ExprTrait, Query, UnionType, WithClause};
use sea_orm::{ConnectionTrait, IdenStatic, QueryResult};

use crate::codec;
use crate::session::Session;

/// One query however long the chain is. `UNION` drops rows that came before, so a cycle ends it; and since no
/// depth can be counted beside it (a cycle would give the same run ever new depths), the order is made here.
pub(crate) async fn chain(
    db: &Session<'_, impl ConnectionTrait>,
    run_id: &str,
) -> Result<Vec<SkillRun>> {
    const CHAIN: &str = "chain";

    let run_id = rules::run_id("run_id", run_id)?;
    let links = [(Entity, Column::Id), (Entity, Column::ParentRunId)];
    let parent = Query::select()
        .columns(links)
        .from(db.runs())
        .inner_join(
            CHAIN,
            Expr::col((CHAIN, Column::ParentRunId)).equals((Entity, Column::Id)),
        )
        .take();
    let run_and_parents = Query::select()
        .columns(links)
        .from(db.runs())
        .and_where(COLUMN.id.eq(run_id))
        .union(UnionType::Distinct, parent)
        .take();
    let chain = CommonTableExpression::new()
        .table_name(CHAIN)
        .columns([Column::Id, Column::ParentRunId])
        .query(run_and_parents)
        .to_owned();
    let in_chain = Query::select().column(Column::Id).from(CHAIN).take();
    let query = db
        .select_runs()
        .and_where(Expr::col((Entity, Column::Id)).in_subquery(in_chain))
        .take()
        .with(WithClause::new().recursive(true).cte(chain).to_owned());

    in_order(run_id, &db.fetch(&query).await?)
}

/// Follows the parents from `run_id` on, past damaged runs as far as their parent can be read.
fn in_order(run_id: &str, rows: &[QueryResult]) -> Result<Vec<SkillRun>> {
    let text = |row: &QueryResult, column: Column| -> Option<String> {
        row.try_get("", column.as_str()).ok().flatten()
    };
    let mut by_id: HashMap<String, &QueryResult> = rows
        .iter()
        .filter_map(|row| Some((text(row, Column::Id)?, row)))
        .collect();
    let mut chain = Vec::with_capacity(rows.len());
    let mut next = Some(run_id.to_owned());
    while let Some(row) = next.and_then(|id| by_id.remove(&id)) {
        chain.extend(codec::unless_damaged(codec::decode_run(row))?);
        next = text(row, Column::ParentRunId);
    }
    Ok(chain)
}
