//! Sums over the usage of events.

use runtrail_audit::{ModelUsage, Result, rules};
use runtrail_db::{Connection, Plan, Planned, Row, backend};
use runtrail_entity::skill_run_log::{COLUMN, Column, Entity};
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait, Query};
use sea_orm::{Condition, Order};

use crate::error;
use crate::settings::Session;

/// The columns that identify a model in a run.
const MODEL: [Column; 3] = [Column::RunId, Column::Provider, Column::Model];

/// The columns that are added up.
const SUMMED: [Column; 6] = [
    Column::InputTokens,
    Column::CacheReadTokens,
    Column::CacheWriteTokens,
    Column::OutputTokens,
    Column::ThinkingTokens,
    Column::CostMicros,
];

pub(crate) async fn by_model(
    db: &Session<'_, impl Connection>,
    run_ids: &[String],
) -> Result<Vec<ModelUsage>> {
    for run_id in run_ids {
        rules::run_id("run_id", run_id)?;
    }
    let of_runs = match run_ids {
        [] => return Ok(Vec::new()),
        [run_id] => COLUMN.run_id.eq(run_id.as_str()),
        // Not `is_in`, which would keep SQLite from using the primary key.
        run_ids => COLUMN
            .run_id
            .in_subquery(backend::unfold(db.backend(), run_ids)?),
    };
    let mut query = Query::select();
    for column in MODEL {
        query
            .column((Entity, column))
            .group_by_col((Entity, column))
            // The databases sort NULL differently.
            .order_by_expr(Expr::col((Entity, column)).is_not_null(), Order::Asc)
            .order_by((Entity, column), Order::Asc);
    }
    query
        .expr(Expr::col(Asterisk).count())
        .expr(Expr::col((Entity, Column::CostMicros)).count())
        // The sum of integers could overflow.
        .exprs(SUMMED.map(|column| {
            let number = Expr::col((Entity, column)).cast_as("double precision");
            number.sum()
        }))
        .from(db.logs())
        .and_where(of_runs)
        .cond_where(has_usage());
    let rows = db.fetch_long(&Planned(query.take(), Plan::Fixed)).await?;
    rows.iter().map(read).collect()
}

/// Whether an event has a usage: the condition of the index of such events.
pub(crate) fn has_usage() -> Condition {
    let columns = [Column::Provider, Column::Model].into_iter().chain(SUMMED);
    columns.fold(Condition::any(), |any, column| {
        any.add(Expr::col((Entity, column)).is_not_null())
    })
}

fn read(row: &Row) -> Result<ModelUsage> {
    let count = |position: usize| -> Result<u64> {
        let count: i64 = row.get(position).map_err(error::database)?;
        Ok(count.unsigned_abs())
    };
    let sum = |position: usize| -> Result<u64> {
        let sum: Option<f64> = row.get(position).map_err(error::database)?;
        // Saturates.
        Ok(sum.unwrap_or_default() as u64)
    };
    let mut usage = ModelUsage::default();
    usage.run_id = row.get(0).map_err(error::database)?;
    usage.provider = row.get(1).map_err(error::database)?;
    usage.model = row.get(2).map_err(error::database)?;
    usage.calls = count(3)?;
    usage.calls_without_cost = usage.calls.saturating_sub(count(4)?);
    usage.input_tokens = sum(5)?;
    usage.cache_read_tokens = sum(6)?;
    usage.cache_write_tokens = sum(7)?;
    usage.output_tokens = sum(8)?;
    usage.thinking_tokens = sum(9)?;
    usage.cost_micros = sum(10)?;
    Ok(usage)
}
