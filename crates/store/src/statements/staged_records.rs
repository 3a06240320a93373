//! Records of telemetry that don't belong to a run yet.

use chrono::{DateTime, Utc};
use runtrail_audit::{ListOrder, Result, StagedRecord, WaitingGroup, rules};
use runtrail_db::{Executor, Plan, Planned, Row, backend, keyset};
use runtrail_entity::staged_record::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, InsertStatement, OnConflict, Query, SelectStatement};
use sea_orm::{ColumnTrait, ColumnType, IdenStatic, Iterable, Order};
use serde::Serialize;

use crate::settings::Session;
use crate::statements::{MAX_BATCH_BYTES, MAX_BATCH_ROWS};
use crate::{codec, error};

const KEY: [Column; 2] = [Column::GroupId, Column::Id];

pub(crate) async fn insert(
    db: &Session<'_, impl Executor>,
    records: &[StagedRecord],
) -> Result<()> {
    let now = db.clock.now();
    let mut rows = records
        .iter()
        .map(|record| codec::encode_staged_record(record, now))
        .collect::<Result<Vec<_>>>()?;
    // Concurrent calls lock the rows in the same order.
    rows.sort_by(|a, b| (&a.group_id, &a.id).cmp(&(&b.group_id, &b.id)));
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let batch;
        (batch, rest) = rest.split_at(batch_length(rest));
        let insert = insert_many(db, batch)?;
        db.with_fresh_deadline().execute(&insert).await?;
    }
    Ok(())
}

/// The number of rows that fit into one batch; at least one.
fn batch_length(rows: &[Model]) -> usize {
    let mut bytes = 0;
    let fitting = rows.iter().take(MAX_BATCH_ROWS).take_while(|row| {
        bytes += row.content.as_ref().map_or(0, String::len);
        bytes <= MAX_BATCH_BYTES
    });
    fitting.count().max(1)
}

/// The columns of a record that waits, in the order of [`Waiting`].
const WAITING: [Column; 7] = [
    Column::GroupId,
    Column::Id,
    Column::ParentId,
    Column::Kind,
    Column::StartedAt,
    Column::ReceivedAt,
    Column::Content,
];

type Waiting<'a> = (
    &'a str,
    &'a str,
    Option<&'a str>,
    &'a str,
    i64,
    i64,
    Option<&'a str>,
);

fn insert_many(db: &Session<'_, impl Executor>, rows: &[Model]) -> Result<InsertStatement> {
    fn waiting(row: &Model) -> Waiting<'_> {
        let Model {
            group_id,
            id,
            parent_id,
            kind,
            started_at,
            received_at,
            run_id: _,
            content,
        } = row;
        let (parent_id, content) = (parent_id.as_deref(), content.as_deref());
        (
            group_id,
            id,
            parent_id,
            kind,
            *started_at,
            *received_at,
            content,
        )
    }
    let values: Vec<_> = rows.iter().map(waiting).collect();
    let fields = WAITING.iter().zip(0..).map(|(column, place): (_, i32)| {
        let field = backend::field(db.backend(), place);
        match column.def().get_column_type() {
            ColumnType::BigInteger => field.cast_as("bigint"),
            _ => field,
        }
    });
    let records = Query::select()
        .exprs(fields)
        .from(backend::unfold_rows(db.backend(), &values)?)
        // Without a WHERE, SQLite parses the ON of ON CONFLICT as that of a join.
        .and_where(Expr::Constant(true.into()))
        .take();
    let mut insert = Query::insert()
        .into_table(db.staged_records())
        .columns(WAITING)
        .on_conflict(OnConflict::columns(KEY).do_nothing().to_owned())
        .take();
    let records = db.with_lock_timeout(records);
    insert.select_from(records).map_err(error::statement)?;
    Ok(insert)
}

pub(crate) async fn waiting_groups(
    db: &Session<'_, impl Executor>,
    after: &str,
    limit: u64,
) -> Result<Vec<WaitingGroup>> {
    let received_at = || Expr::col((Entity, Column::ReceivedAt));
    let query = Query::select()
        .column((Entity, Column::GroupId))
        .expr(received_at().min())
        .expr(received_at().max())
        .from(db.staged_records())
        .and_where(COLUMN.run_id.is_null())
        .and_where(COLUMN.group_id.gt(rules::identifier("after", after)?))
        .group_by_col((Entity, Column::GroupId))
        .order_by((Entity, Column::GroupId), Order::Asc)
        .limit(Ord::min(limit, backend::ALL))
        .take();
    let rows = db.fetch_long(&Planned(query, Plan::Fixed)).await?;
    rows.iter().map(decode_group).collect()
}

fn decode_group(row: &Row) -> Result<WaitingGroup> {
    let time = |position| -> Result<DateTime<Utc>> {
        let micros: i64 = row.get(position).map_err(error::database)?;
        Ok(DateTime::from_timestamp_micros(micros).unwrap_or_default())
    };
    let group_id: String = row.get(0).map_err(error::database)?;
    Ok(WaitingGroup::new(group_id, time(1)?, time(2)?))
}

pub(crate) async fn waiting(
    db: &Session<'_, impl Executor>,
    group_id: &str,
    limit: u64,
) -> Result<Vec<StagedRecord>> {
    const ORDER: [Column; 2] = [Column::ReceivedAt, Column::Id];
    /// A large trace has tens of thousands, and a row takes more memory than its record.
    const PAGE: u64 = 5_000;

    let mut query = select(db, |column| !matches!(column, Column::Content));
    query
        .and_where(COLUMN.group_id.eq(rules::run_id("group_id", group_id)?))
        .and_where(COLUMN.run_id.is_null());
    keyset::order_by(&mut query, &ORDER, ListOrder::OldestFirst);
    let mut records = Vec::new();
    let mut left = Ord::min(limit, backend::ALL);
    let mut after: Option<Vec<Expr>> = None;
    loop {
        let length = Ord::min(left, PAGE);
        let mut page = query.clone();
        page.limit(length);
        if let Some(after) = after {
            page.and_where(keyset::is_after(&ORDER, after, ListOrder::OldestFirst));
        }
        let db = db.with_fresh_deadline();
        let rows = db.fetch_long(&Planned(page, Plan::Fixed)).await?;
        after = keyset::end(&rows, length, &ORDER)?;
        left -= length;
        records.extend(codec::decode_readable(rows, codec::decode_staged_record)?);
        if left == 0 || after.is_none() {
            return Ok(records);
        }
    }
}

pub(crate) async fn find(
    db: &Session<'_, impl Executor>,
    group_id: &str,
    ids: &[String],
) -> Result<Vec<StagedRecord>> {
    let mut query = select(db, |_| true);
    query
        .and_where(COLUMN.group_id.eq(rules::run_id("group_id", group_id)?))
        .and_where(COLUMN.id.in_subquery(backend::unfold(db.backend(), ids)?))
        .order_by((Entity, Column::Id), Order::Asc);
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    codec::decode_readable(rows, codec::decode_staged_record)
}

/// Selects all columns, with NULL for those that are left out.
fn select(db: &Session<'_, impl Executor>, is_read: impl Fn(&Column) -> bool) -> SelectStatement {
    let columns = Column::iter().map(|column| match is_read(&column) {
        true => Expr::col((Entity, column)),
        false => Expr::val(None::<String>),
    });
    Query::select()
        .exprs(columns)
        .from(db.staged_records())
        .take()
}

#[derive(Serialize)]
struct Settled<'a> {
    id: &'a str,
    run_id: &'a str,
}

pub(crate) async fn settle(
    db: &Session<'_, impl Executor>,
    group_id: &str,
    records: &[(String, String)],
) -> Result<()> {
    rules::run_id("group_id", group_id)?;
    for (id, run_id) in records {
        rules::run_id("id", id)?;
        rules::identifier("run_id", run_id)?;
    }
    let mut records: Vec<_> = records.iter().collect();
    records.sort();
    for batch in records.chunks(MAX_BATCH_ROWS) {
        let batch: Vec<_> = batch
            .iter()
            .map(|(id, run_id)| Settled { id, run_id })
            .collect();
        let given = |column: Column| backend::field(db.backend(), column.as_str());
        let mut update = Query::update()
            .table(db.staged_records())
            .value(Column::RunId, given(Column::RunId))
            .value(Column::Content, None::<String>)
            .from(backend::unfold_rows(db.backend(), &batch)?)
            .and_where(COLUMN.group_id.eq(group_id))
            .and_where(Expr::col((Entity, Column::Id)).eq(given(Column::Id)))
            // Not `run_id IS NULL`: with the index of that condition, the databases read all waiting
            // records.
            .and_where(COLUMN.content.is_not_null())
            .take();
        if let Some(lock_timeout) = db.lock_timeout_table() {
            update.from(lock_timeout);
        }
        db.with_fresh_deadline().execute(&update).await?;
    }
    Ok(())
}

pub(crate) async fn forget_settled(
    db: &Session<'_, impl Executor>,
    cutoff: DateTime<Utc>,
) -> Result<u64> {
    let key = KEY.map(|column| Expr::col((Entity, column)));
    let due = Query::select()
        .exprs(key.clone())
        .from(db.staged_records())
        .and_where(COLUMN.run_id.is_not_null())
        .and_where(COLUMN.received_at.lt(rules::micros(cutoff)))
        .limit(MAX_BATCH_ROWS as u64)
        .take();
    let delete = Query::delete()
        .from_table(db.staged_records())
        .and_where(Expr::tuple(key).in_subquery(due))
        .take();
    let mut forgotten = 0;
    loop {
        let deleted = db.with_fresh_deadline().execute(&delete).await?;
        forgotten += deleted;
        if deleted < MAX_BATCH_ROWS as u64 {
            return Ok(forgotten);
        }
    }
}
