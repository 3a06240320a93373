//! Lists and counts of runs.

use chrono::{DateTime, Utc};
use runtrail_audit::{
    CursorPage, ListOrder, Page, PageRequest, Result, RunFilter, RunQuery, RunSummary, SkillRun,
    rules,
};
use runtrail_db::backend::ALL;
use runtrail_db::{Connection, keyset};
use runtrail_entity::skill_run::{COLUMN, Column};
use sea_orm::Condition;
use sea_orm::sea_query::{Expr, Query, SelectStatement};

use crate::codec;
use crate::codec::ListId;
use crate::read::chunk::Chunk;
use crate::read::filter;
use crate::read::page::List;
use crate::settings::Session;

/// The sort key of runs.
const KEY: [Column; 2] = [Column::StartedAt, Column::Id];

pub(crate) async fn filtered(
    db: &Session<'_, impl Connection>,
    filter: &RunFilter,
    page: Page,
) -> Result<Vec<SkillRun>> {
    let condition = filter::condition(db, &filter.into())?;
    newest_first(db, condition, page).await
}

pub(crate) async fn count(db: &Session<'_, impl Connection>, query: &RunQuery) -> Result<u64> {
    let runs = Query::select()
        .from(db.runs())
        .cond_where(filter::condition(db, query)?)
        .take();
    db.count(runs).await
}

pub(crate) async fn children(
    db: &Session<'_, impl Connection>,
    parent_run_id: &str,
) -> Result<Vec<SkillRun>> {
    let parent_run_id = rules::run_id("parent_run_id", parent_run_id)?;
    let of_parent = COLUMN.parent_run_id.eq(parent_run_id);
    newest_first(db, Condition::all().add(of_parent), Page::ALL).await
}

pub(crate) async fn finished_before(
    db: &Session<'_, impl Connection>,
    cutoff: DateTime<Utc>,
    limit: Option<u64>,
) -> Result<Vec<SkillRun>> {
    // The condition excludes running runs, whose finish time is null.
    let finished = COLUMN.finished_at.lt(rules::micros(cutoff));
    newest_first(db, Condition::all().add(finished), limit.into()).await
}

/// Reads a page that starts at a cursor.
pub(crate) async fn page(
    db: &Session<'_, impl Connection>,
    query: &RunQuery,
    order: ListOrder,
    request: &PageRequest,
) -> Result<CursorPage<SkillRun>> {
    let list = list_of(db, db.select_runs(), query, order)?;
    list.page(db, request, codec::decode_run).await
}

/// Like [`page`], without reading the inputs, output and error.
pub(crate) async fn page_of_summaries(
    db: &Session<'_, impl Connection>,
    query: &RunQuery,
    order: ListOrder,
    request: &PageRequest,
) -> Result<CursorPage<RunSummary>> {
    let summaries = Query::select()
        .columns(codec::SUMMARY)
        .from(db.runs())
        .take();
    let list = list_of(db, summaries, query, order)?;
    list.page(db, request, codec::decode_summary).await
}

fn list_of(
    db: &Session<'_, impl Connection>,
    mut runs: SelectStatement,
    query: &RunQuery,
    order: ListOrder,
) -> Result<List<Column>> {
    runs.cond_where(filter::condition(db, query)?);
    Ok(List {
        query: runs,
        id: ListId::of_runs(query, order)?,
        key: &KEY,
        order,
    })
}

/// Limits a number of rows to what drivers can bind.
pub(crate) fn clamp(rows: u64) -> u64 {
    Ord::min(rows, ALL)
}

/// The number of runs that [`chunk`] fetches; each may have three texts of the maximum size.
const CHUNK_RUNS: u64 = 25;

/// Reads the first runs of a page, or those after the run with the key `after`.
pub(crate) async fn chunk(
    db: &Session<'_, impl Connection>,
    query: &RunQuery,
    order: ListOrder,
    page: Page,
    after: Option<Vec<Expr>>,
) -> Result<Chunk<SkillRun>> {
    let mut condition = filter::condition(db, query)?;
    let mut offset = page.offset;
    if let Some(key) = after {
        // The first chunk has already skipped the rows before the page.
        offset = 0;
        condition = condition.add(keyset::is_after(&KEY, key, order));
    }
    let limit = Ord::min(page.limit.unwrap_or(CHUNK_RUNS), CHUNK_RUNS);
    let page = Page::first(limit).skip(offset);
    let query = ordered(db, condition, order, page);
    Chunk::from_rows(db.fetch_long(&query).await?, limit, &KEY, codec::decode_run)
}

async fn newest_first(
    db: &Session<'_, impl Connection>,
    condition: Condition,
    page: Page,
) -> Result<Vec<SkillRun>> {
    let query = ordered(db, condition, ListOrder::NewestFirst, page);
    codec::decode_readable(db.fetch(&query).await?, codec::decode_run)
}

fn ordered(
    db: &Session<'_, impl Connection>,
    condition: Condition,
    order: ListOrder,
    page: Page,
) -> SelectStatement {
    let mut query = db.select_runs();
    keyset::order_by(&mut query, &KEY, order);
    query
        .cond_where(condition)
        // Always set: SQLite has no OFFSET without LIMIT, and all pages then share one SQL text.
        .limit(page.limit.map_or(ALL, clamp))
        .offset(clamp(page.offset))
        .take()
}
