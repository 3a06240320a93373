//! Lists and counts of runs.

use chrono::{DateTime, Utc};
use runtrail_audit::{
    CursorPage, ListOrder, Page, PageRequest, Result, RunFilter, RunQuery, RunStatus, RunSummary,
    SkillRun, rules,
};
use runtrail_db::backend::{self, ALL};
use runtrail_db::keyset::{self, IndexTable, Part};
use runtrail_db::{Connection, Cost, Plan, Planned};
use runtrail_entity::skill_run::{COLUMN, Column};
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition, Order};

use crate::codec;
use crate::codec::ListId;
use crate::read::chunk::Chunk;
use crate::read::filter::{self, Selection};
use crate::read::page::List;
use crate::settings::Session;

/// Returns the parts of a list of the runs that match a filter.
async fn parts_of(
    db: &Session<'_, impl Connection>,
    query: &RunQuery,
) -> Result<Vec<Part<Column>>> {
    let part = |selection: &Selection| {
        let prefix = filter::single_value(db, selection);
        let index = prefix.as_ref().map(|(column, _)| *column);
        Ok(Part {
            condition: filter::condition_in_index(db, selection, index)?,
            prefix,
            index_table: selection.index_table(db)?,
            plan: filter::plan(selection),
        })
    };
    filter::split(db, query).await?.iter().map(part).collect()
}

/// The sort key of runs.
const KEY: [Column; 2] = [Column::StartedAt, Column::Id];

pub(crate) async fn filtered(
    db: &Session<'_, impl Connection>,
    filter: &RunFilter,
    page: Page,
) -> Result<Vec<SkillRun>> {
    let parts = parts_of(db, &filter.into()).await?;
    newest_first(db, parts, page).await
}

pub(crate) async fn count(db: &Session<'_, impl Connection>, query: &RunQuery) -> Result<u64> {
    let parts = filter::split(db, query).await?;
    let counts: Result<Vec<_>> = parts.iter().map(|part| count_part(db, part)).collect();
    // SQLite can't stop a count without a condition.
    let cost = match *query == RunQuery::new().include_dry_run() {
        true => Cost::Long,
        false => Cost::Varying,
    };
    let plan = Plan::of_parts(parts.iter().map(plan_of_count));
    db.sum(counts?, cost, plan).await
}

/// Selects the number of runs that match a filter.
///
/// Unless the filter is by status, dry runs are counted separately and subtracted. The main count
/// then doesn't need the status, so an index without it suffices.
fn count_part(db: &Session<'_, impl Connection>, part: &Selection) -> Result<SelectStatement> {
    let count = || Expr::col(Asterisk).count();
    let index = part.index_table(db)?;
    let select = |value: Expr, condition: Condition| {
        let mut select = Query::select();
        select.expr(value).from(db.runs()).cond_where(condition);
        if let Some(IndexTable { table, on, .. }) = index.clone() {
            select.inner_join(table, on);
        }
        select
    };
    if !counts_dry_runs(&part.query) {
        return Ok(select(count(), filter::condition(db, part)?));
    }
    let all = filter::condition(db, &part.including_dry_runs())?;
    // A constant, since the planner knows how many rows have this value.
    let is_dry_run =
        Expr::col(Column::Status).eq(Expr::Constant(RunStatus::DRY_RUN.as_str().into()));
    let dry_runs = select(count(), all.clone().add(is_dry_run));
    let dry_runs = Expr::SubQuery(None, Box::new(dry_runs.into()));
    Ok(select(count().sub(dry_runs), all))
}

/// Whether a count subtracts dry runs.
fn counts_dry_runs(query: &RunQuery) -> bool {
    let is_by_status = query.statuses.only.is_some() || !query.statuses.except.is_empty();
    !query.include_dry_run && !is_by_status
}

/// The index of the dry runs begins with the skill. For the dry runs of a caller, that index is the
/// best one if the caller has many runs, and otherwise the index of the caller.
fn plan_of_count(part: &Selection) -> Plan {
    match counts_dry_runs(&part.query) && part.query.skills.only.is_none() {
        true => Plan::ByValues,
        false => filter::plan(part),
    }
}

pub(crate) async fn children(
    db: &Session<'_, impl Connection>,
    parent_run_id: &str,
) -> Result<Vec<SkillRun>> {
    let parent_run_id = rules::run_id("parent_run_id", parent_run_id)?;
    let of_parent = COLUMN.parent_run_id.eq(parent_run_id);
    newest_first(db, vec![Part::all(Plan::Fixed).and(of_parent)], Page::ALL).await
}

pub(crate) async fn finished_before(
    db: &Session<'_, impl Connection>,
    cutoff: DateTime<Utc>,
    limit: Option<u64>,
) -> Result<Vec<SkillRun>> {
    // The condition excludes running runs, whose finish time is null.
    let finished = COLUMN.finished_at.lt(rules::micros(cutoff));
    newest_first(
        db,
        vec![Part::all(Plan::ByValues).and(finished)],
        limit.into(),
    )
    .await
}

/// Reads a page that starts at a cursor.
pub(crate) async fn page(
    db: &Session<'_, impl Connection>,
    query: &RunQuery,
    order: ListOrder,
    request: &PageRequest,
) -> Result<CursorPage<SkillRun>> {
    let list = list_of(db, db.select_runs(), query, order).await?;
    list.page(db, request, codec::decode_run).await
}

/// Like [`page`], without reading the inputs, output and error.
pub(crate) async fn page_of_summaries(
    db: &Session<'_, impl Connection>,
    query: &RunQuery,
    order: ListOrder,
    request: &PageRequest,
) -> Result<CursorPage<RunSummary>> {
    let list = list_of(db, summaries(db), query, order).await?;
    list.page(db, request, codec::decode_summary).await
}

/// Reads some runs whose start or finish, the given column, is between these times, in its order:
/// the first ones, or those after the run with the key `after`. Also returns the key after which the
/// next ones begin.
pub(crate) async fn with_time_between(
    db: &Session<'_, impl Connection>,
    column: Column,
    (from, to): (i64, i64),
    after: Option<Vec<Expr>>,
) -> Result<(Vec<RunSummary>, Option<Vec<Expr>>)> {
    const RUNS: u64 = 1_000;

    let key = [column, Column::Id];
    let is_between = column.gte(from).and(column.lte(to));
    let mut parts = vec![Part::all(Plan::Fixed).and(is_between)];
    if let Some(after) = after {
        parts = keyset::after(parts, &key, &after, ListOrder::OldestFirst);
    }
    let query = keyset::first_rows(
        db.backend(),
        summaries(db),
        parts,
        &key,
        ListOrder::OldestFirst,
        RUNS,
        None,
    );
    let rows = db.fetch(&query).await?;
    let next = keyset::end(&rows, RUNS, &key)?;
    Ok((codec::decode_readable(rows, codec::decode_summary)?, next))
}

/// Reads those of these runs that match a query, in the order of their start.
pub(crate) async fn matching(
    db: &Session<'_, impl Connection>,
    query: &RunQuery,
    ids: &[String],
) -> Result<Vec<RunSummary>> {
    let has_id = Column::Id.in_subquery(backend::unfold(db.backend(), ids)?);
    let condition = filter::condition(db, &Selection::new(query.clone().sorted()))?;
    let query = summaries(db)
        .cond_where(condition.add(has_id))
        .order_by(Column::StartedAt, Order::Asc)
        .order_by(Column::Id, Order::Asc)
        .take();
    codec::decode_readable(db.fetch(&query).await?, codec::decode_summary)
}

fn summaries(db: &Session<'_, impl Connection>) -> SelectStatement {
    Query::select()
        .columns(codec::SUMMARY)
        .from(db.runs())
        .take()
}

async fn list_of(
    db: &Session<'_, impl Connection>,
    rows: SelectStatement,
    query: &RunQuery,
    order: ListOrder,
) -> Result<List<Column>> {
    Ok(List {
        rows,
        parts: parts_of(db, query).await?,
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
    let mut parts = parts_of(db, query).await?;
    let mut offset = page.offset;
    if let Some(key) = after {
        // The first chunk has already skipped the rows before the page.
        offset = 0;
        parts = keyset::after(parts, &KEY, &key, order);
    }
    let limit = Ord::min(page.limit.unwrap_or(CHUNK_RUNS), CHUNK_RUNS);
    let page = Page::first(limit).skip(offset);
    let query = ordered(db, parts, order, page);
    Chunk::from_rows(db.fetch_long(&query).await?, limit, &KEY, codec::decode_run)
}

async fn newest_first(
    db: &Session<'_, impl Connection>,
    parts: Vec<Part<Column>>,
    page: Page,
) -> Result<Vec<SkillRun>> {
    let query = ordered(db, parts, ListOrder::NewestFirst, page);
    codec::decode_readable(db.fetch(&query).await?, codec::decode_run)
}

fn ordered(
    db: &Session<'_, impl Connection>,
    parts: Vec<Part<Column>>,
    order: ListOrder,
    page: Page,
) -> Planned<SelectStatement> {
    // Always with a limit: SQLite has no OFFSET without LIMIT, and all pages then share one SQL
    // text.
    let limit = page.limit.map_or(ALL, clamp);
    keyset::first_rows(
        db.backend(),
        db.select_runs(),
        parts,
        &KEY,
        order,
        limit,
        Some(clamp(page.offset)),
    )
}
