//! Lists of runs, newest first, and their lengths.

use chrono::{DateTime, Utc};
use runtrail_audit::{Page, Result, RunFilter, SkillRun, rules};
use runtrail_entity::skill_run::{COLUMN, Column};
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait, Query};
use sea_orm::{Condition, ConnectionTrait, Order};

use crate::session::Session;
use crate::{codec, error, filter};

pub(crate) async fn filtered(
    db: &Session<'_, impl ConnectionTrait>,
    filter: &RunFilter,
    page: Page,
) -> Result<Vec<SkillRun>> {
    newest_first(db, filter::condition(filter)?, page).await
}

pub(crate) async fn count(
    db: &Session<'_, impl ConnectionTrait>,
    filter: &RunFilter,
) -> Result<u64> {
    let query = Query::select()
        .expr_as(Expr::col(Asterisk).count(), "count")
        .from(db.runs())
        .cond_where(filter::condition(filter)?)
        .take();
    let rows = db.fetch(&query).await?;
    let counts = rows.iter().map(|row| row.try_get::<i64>("", "count"));
    let count: i64 = counts.sum::<Result<_, _>>().map_err(error::database)?;
    // Not negative: the database has counted.
    Ok(count.unsigned_abs())
}

pub(crate) async fn children(
    db: &Session<'_, impl ConnectionTrait>,
    parent_run_id: &str,
) -> Result<Vec<SkillRun>> {
    let parent_run_id = rules::identifier("parent_run_id", parent_run_id)?;
    let of_parent = COLUMN.parent_run_id.eq(parent_run_id);
    newest_first(db, Condition::all().add(of_parent), Page::ALL).await
}

pub(crate) async fn finished_before(
    db: &Session<'_, impl ConnectionTrait>,
    cutoff: DateTime<Utc>,
    limit: Option<u64>,
) -> Result<Vec<SkillRun>> {
    // A running one has no time to compare, and so is not before anything.
    let finished = COLUMN.finished_at.lt(rules::micros(cutoff));
    newest_first(db, Condition::all().add(finished), limit.into()).await
}

/// More rows than any table has, and the largest number that the drivers can bind.
const ALL: u64 = i64::MAX.unsigned_abs();

fn within(rows: u64) -> u64 {
    Ord::min(rows, ALL)
}

async fn newest_first(
    db: &Session<'_, impl ConnectionTrait>,
    condition: Condition,
    page: Page,
) -> Result<Vec<SkillRun>> {
    let mut query = db.select_runs();
    query
        .cond_where(condition)
        .order_by(Column::StartedAt, Order::Desc)
        .order_by(Column::Id, Order::Desc)
        // Always there, as SQLite knows no OFFSET without LIMIT; and so the text is the same for every page.
        .limit(page.limit.map_or(ALL, within))
        .offset(within(page.offset));
    codec::readable(&db.fetch(&query).await?, codec::decode_run)
}
