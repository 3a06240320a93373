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

/// The runs of a list.
struct Selection {
    condition: Condition,
    /// The column whose index the runs are read from, and its value in all runs.
    prefix: Option<(Column, String)>,
}

impl Selection {
    /// The runs that match a filter.
    fn of(db: &Session<'_, impl Connection>, query: &RunQuery) -> Result<Self> {
        let prefix = filter::single_value(db, query);
        let index = prefix.as_ref().map(|(column, _)| *column);
        Ok(Self {
            condition: filter::condition_in_index(db, query, index)?,
            prefix,
        })
    }

    /// The runs that meet a condition; the database chooses the index.
    fn by_start(condition: Expr) -> Self {
        Self {
            condition: Condition::all().add(condition),
            prefix: None,
        }
    }
}

/// The sort key of runs.
const KEY: [Column; 2] = [Column::StartedAt, Column::Id];

pub(crate) async fn filtered(
    db: &Session<'_, impl Connection>,
    filter: &RunFilter,
    page: Page,
) -> Result<Vec<SkillRun>> {
    let runs = Selection::of(db, &filter.into())?;
    newest_first(db, runs, page).await
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
    newest_first(db, Selection::by_start(of_parent), Page::ALL).await
}

pub(crate) async fn finished_before(
    db: &Session<'_, impl Connection>,
    cutoff: DateTime<Utc>,
    limit: Option<u64>,
) -> Result<Vec<SkillRun>> {
    // The condition excludes running runs, whose finish time is null.
    let finished = COLUMN.finished_at.lt(rules::micros(cutoff));
    newest_first(db, Selection::by_start(finished), limit.into()).await
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
    let selection = Selection::of(db, query)?;
    runs.cond_where(selection.condition);
    Ok(List {
        query: runs,
        id: ListId::of_runs(query, order)?,
        key: &KEY,
        prefix: selection.prefix,
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
    let mut runs = Selection::of(db, query)?;
    let mut offset = page.offset;
    if let Some(key) = after {
        // The first chunk has already skipped the rows before the page.
        offset = 0;
        let is_after = keyset::is_after_in(runs.prefix.as_ref(), &KEY, key, order);
        runs.condition = runs.condition.add(is_after);
    }
    let limit = Ord::min(page.limit.unwrap_or(CHUNK_RUNS), CHUNK_RUNS);
    let page = Page::first(limit).skip(offset);
    let query = ordered(db, runs, order, page);
    Chunk::from_rows(db.fetch_long(&query).await?, limit, &KEY, codec::decode_run)
}

async fn newest_first(
    db: &Session<'_, impl Connection>,
    runs: Selection,
    page: Page,
) -> Result<Vec<SkillRun>> {
    let query = ordered(db, runs, ListOrder::NewestFirst, page);
    codec::decode_readable(db.fetch(&query).await?, codec::decode_run)
}

fn ordered(
    db: &Session<'_, impl Connection>,
    runs: Selection,
    order: ListOrder,
    page: Page,
) -> SelectStatement {
    let mut query = db.select_runs();
    keyset::order_by_in(&mut query, runs.prefix.as_ref(), &KEY, order);
    query
        .cond_where(runs.condition)
        // Always set: SQLite has no OFFSET without LIMIT, and all pages then share one SQL text.
        .limit(page.limit.map_or(ALL, clamp))
        .offset(clamp(page.offset))
        .take()
}
