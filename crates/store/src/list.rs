//! Lists of runs, newest first, and their lengths.

use chrono::{DateTime, Utc};
use runtrail_audit::{Page, Result, RunFilter, SkillRun, rules};
use runtrail_entity::skill_run::{COLUMN, Column};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{Condition, Order, Value};

use crate::connection::Connection;
use crate::session::Session;
use crate::stretch::{self, Stretch};
use crate::{codec, filter};

pub(crate) async fn filtered(
    db: &Session<'_, impl Connection>,
    filter: &RunFilter,
    page: Page,
) -> Result<Vec<SkillRun>> {
    newest_first(db, filter::condition(filter)?, page).await
}

pub(crate) async fn count(db: &Session<'_, impl Connection>, filter: &RunFilter) -> Result<u64> {
    let query = Query::select()
        .from(db.runs())
        .cond_where(filter::condition(filter)?)
        .take();
    db.count(query).await
}

pub(crate) async fn children(
    db: &Session<'_, impl Connection>,
    parent_run_id: &str,
) -> Result<Vec<SkillRun>> {
    let parent_run_id = rules::identifier("parent_run_id", parent_run_id)?;
    let of_parent = COLUMN.parent_run_id.eq(parent_run_id);
    newest_first(db, Condition::all().add(of_parent), Page::ALL).await
}

pub(crate) async fn finished_before(
    db: &Session<'_, impl Connection>,
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

/// Runs that [`stretch`] fetches at a time, each perhaps with three texts of the largest size.
const RUNS_AT_ONCE: u64 = 25;

/// The first runs of a page, or some after the run with this key: its start and its id.
pub(crate) async fn stretch(
    db: &Session<'_, impl Connection>,
    filter: &RunFilter,
    order: runtrail_audit::Order,
    page: Page,
    after: Option<Vec<Value>>,
) -> Result<Stretch<SkillRun>> {
    const KEY: [Column; 2] = [Column::StartedAt, Column::Id];

    let mut condition = filter::condition(filter)?;
    let mut offset = page.offset;
    if let Some(key) = after {
        // What comes before the page has been skipped by now.
        offset = 0;
        let key = Expr::tuple(key.into_iter().map(Expr::val));
        let place = Expr::tuple(KEY.map(Expr::col));
        condition = condition.add(match order {
            runtrail_audit::Order::NewestFirst => place.lt(key),
            runtrail_audit::Order::OldestFirst => place.gt(key),
        });
    }
    let limit = Ord::min(page.limit.unwrap_or(RUNS_AT_ONCE), RUNS_AT_ONCE);
    let page = Page::first(limit).skip(offset);
    let query = ordered(db, condition, stretch::direction(order), page);
    Stretch::of(&db.fetch(&query).await?, limit, &KEY, codec::decode_run)
}

async fn newest_first(
    db: &Session<'_, impl Connection>,
    condition: Condition,
    page: Page,
) -> Result<Vec<SkillRun>> {
    let query = ordered(db, condition, Order::Desc, page);
    codec::readable(&db.fetch(&query).await?, codec::decode_run)
}

fn ordered(
    db: &Session<'_, impl Connection>,
    condition: Condition,
    direction: Order,
    page: Page,
) -> SelectStatement {
    db.select_runs()
        .cond_where(condition)
        .order_by(Column::StartedAt, direction.clone())
        .order_by(Column::Id, direction)
        // Always there, as SQLite knows no OFFSET without LIMIT; and so the text is the same for every page.
        .limit(page.limit.map_or(ALL, within))
        .offset(within(page.offset))
        .take()
}
