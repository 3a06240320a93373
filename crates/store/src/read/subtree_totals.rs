//! Sums over runs and their descendants.

use runtrail_audit::{Error, PageRequest, Result, RunQuery, SubtreeTotals, rules};
use runtrail_db::backend::{self, LIST};
use runtrail_db::{Connection, Plan, Planned, Row};
use runtrail_entity::skill_run::{Column, Entity};
use runtrail_entity::skill_run_log::{Column as LogColumn, Entity as Log};
use sea_orm::Condition;
use sea_orm::sea_query::{
    Asterisk, CommonTableExpression, Expr, ExprTrait, Query, SelectStatement, UnionType, WithClause,
};

use crate::error;
use crate::read::filter::{self, Selection};
use crate::read::list::clamp;
use crate::read::{labels, usage};
use crate::settings::Session;

/// The run at the top of a tree, as a column.
const TOP: &str = "top";

/// The columns of a run that are added up.
const TOKENS: [Column; 3] = [
    Column::TotalInputTokens,
    Column::TotalOutputTokens,
    Column::TotalThinkingTokens,
];

const CALLS: &str = "calls";
const CALLS_WITH_COST: &str = "calls_with_cost";
const COST: &str = "cost_micros";

pub(crate) async fn of_each(
    db: &Session<'_, impl Connection>,
    run_ids: &[String],
    query: &RunQuery,
    max_runs: u64,
) -> Result<Vec<SubtreeTotals>> {
    if run_ids.len() as u64 > PageRequest::MAX_LIMIT {
        let reason = format!(
            "are {}, more than {}",
            run_ids.len(),
            PageRequest::MAX_LIMIT
        );
        return Err(Error::invalid("run_ids", reason));
    }
    for run_id in run_ids {
        rules::run_id("run_id", run_id)?;
    }
    query.labels.iter().try_for_each(labels::check)?;
    if run_ids.is_empty() {
        return Ok(Vec::new());
    }
    let of_each_run = usage_of_each_run(db, members(db, run_ids, query, max_runs)?);
    let mut totals = Query::select();
    totals.column(TOP).expr(Expr::col(Asterisk).count());
    totals
        .exprs(TOKENS.map(|column| sum(Expr::col(column))))
        .exprs([CALLS, CALLS_WITH_COST, COST].map(|name| sum(Expr::col(name))))
        .from_subquery(of_each_run, "runs")
        .group_by_col(TOP);
    let rows = db.fetch_long(&Planned(totals, Plan::Fixed)).await?;
    let totals = rows.iter().map(|row| read(row, max_runs));
    let mut totals = totals.collect::<Result<Vec<_>>>()?;
    totals.sort_unstable_by(|left, right| left.run_id.cmp(&right.run_id));
    Ok(totals)
}

/// Selects the runs of each tree, as pairs of the run at the top and one of its tree.
///
/// A recursive query for all trees at once could be limited only as a whole, and a large tree would
/// leave nothing for the others. So each tree has a query of its own, which stops at the limit: no
/// more rows of the recursion are computed than are read.
fn members(
    db: &Session<'_, impl Connection>,
    run_ids: &[String],
    query: &RunQuery,
    max_runs: u64,
) -> Result<SelectStatement> {
    const FAMILY: &str = "family";
    const MEMBER: &str = "member";

    let mut tops: Vec<_> = run_ids.iter().map(|run_id| [run_id]).collect();
    tops.sort_unstable();
    tops.dedup();
    let top = || backend::field(db.backend(), 0);
    let is_visible = filter::condition(db, &Selection::new(query.clone().sorted()))?;
    let is_next = Expr::col((FAMILY, Column::Id)).equals((Entity, Column::ParentRunId));
    let next = Query::select()
        .column((Entity, Column::Id))
        .from(db.runs())
        .inner_join(FAMILY, backend::selective(db.backend(), is_next))
        .cond_where(is_visible.clone())
        .take();
    let first_and_next = Query::select()
        .column((Entity, Column::Id))
        .from(db.runs())
        .and_where(Expr::col((Entity, Column::Id)).eq(top()))
        .cond_where(is_visible)
        .union(UnionType::Distinct, next)
        .take();
    let family = CommonTableExpression::new()
        .table_name(FAMILY)
        .columns([Column::Id])
        .query(first_and_next)
        .to_owned();
    let nearest = Query::select()
        // JSON has no bytes, which SQLite can store in any column.
        .expr_as(Expr::col(Column::Id).cast_as("text"), LIST.1)
        .from(FAMILY)
        .limit(clamp(max_runs))
        .with_cte(WithClause::new().recursive(true).cte(family).to_owned())
        .take();
    Ok(Query::select()
        .expr_as(top(), TOP)
        .expr_as(Expr::col((MEMBER, LIST.1)), Column::Id)
        .from(backend::unfold_rows(db.backend(), &tops)?)
        .from(backend::unfold_texts(db.backend(), nearest, MEMBER))
        .take())
}

/// Selects the tokens of each run, and what its events used.
fn usage_of_each_run(
    db: &Session<'_, impl Connection>,
    members: SelectStatement,
) -> SelectStatement {
    const MEMBERS: &str = "members";

    let is_member = Expr::col((Entity, Column::Id)).equals((MEMBERS, Column::Id));
    let is_of_run = Expr::col((Log, LogColumn::RunId)).equals((Entity, Column::Id));
    let cost = || Expr::col((Log, LogColumn::CostMicros));
    let mut query = Query::select();
    query
        .column((MEMBERS, TOP))
        .group_by_col((MEMBERS, TOP))
        .group_by_col((Entity, Column::Id));
    for column in TOKENS {
        query
            .column((Entity, column))
            .group_by_col((Entity, column));
    }
    query
        .expr_as(Expr::col((Log, LogColumn::RunId)).count(), CALLS)
        .expr_as(cost().count(), CALLS_WITH_COST)
        .expr_as(sum(cost()), COST)
        .from_subquery(members, MEMBERS)
        .inner_join(db.runs(), is_member)
        .left_join(
            db.logs(),
            Condition::all().add(is_of_run).add(usage::has_usage()),
        )
        .take()
}

/// Adds up numbers. The sum of integers could overflow.
fn sum(number: Expr) -> Expr {
    number.cast_as("double precision").sum()
}

fn read(row: &Row, max_runs: u64) -> Result<SubtreeTotals> {
    let sum = |position: usize| -> Result<u64> {
        let sum: Option<f64> = row.get(position).map_err(error::database)?;
        // Saturates.
        Ok(sum.unwrap_or_default() as u64)
    };
    let runs: i64 = row.get(1).map_err(error::database)?;
    let mut totals = SubtreeTotals::default();
    totals.run_id = row.get(0).map_err(error::database)?;
    totals.runs = runs.unsigned_abs();
    totals.total_input_tokens = sum(2)?;
    totals.total_output_tokens = sum(3)?;
    totals.total_thinking_tokens = sum(4)?;
    totals.calls = sum(5)?;
    totals.calls_without_cost = totals.calls.saturating_sub(sum(6)?);
    totals.cost_micros = sum(7)?;
    totals.is_cut = totals.runs >= max_runs;
    Ok(totals)
}
