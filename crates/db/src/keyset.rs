//! Keyset pagination: a list continues after the key of a row, not after a number of rows.

use runtrail_audit::{ListOrder, Result};
use sea_orm::sea_query::{
    Asterisk, ColumnRef, Expr, ExprTrait, IntoColumnRef, Query, SelectStatement, TableRef,
    UnionType,
};
use sea_orm::{ColumnTrait, Condition, DbBackend, IdenStatic};

use crate::backend::{ALL, is_in_query};
use crate::{Plan, Planned, Row, error};

/// Returns a condition that is true for the rows after this key in this order.
///
/// The condition compares row values, which lets the database seek in an index. Equivalent
/// comparisons of single columns would scan the index from its start.
pub fn is_after(key: &[impl ColumnTrait], values: Vec<impl Into<Expr>>, order: ListOrder) -> Expr {
    is_after_in(&column_refs(key), values, order)
}

fn is_after_in(key: &[ColumnRef], values: Vec<impl Into<Expr>>, order: ListOrder) -> Expr {
    let columns = Expr::tuple(key.iter().cloned().map(Expr::col));
    let values = Expr::tuple(values.into_iter().map(Into::into));
    match order {
        ListOrder::NewestFirst => columns.lt(values),
        ListOrder::OldestFirst => columns.gt(values),
    }
}

/// A part of a list: rows that can be read from one index in the order of the list.
#[derive(Clone, Debug)]
pub struct Part<C> {
    /// Matches the rows.
    pub condition: Condition,
    /// The column whose index is read, and the value that all rows have in it.
    pub prefix: Option<(C, String)>,
    /// A table that serves as the index, if any.
    pub index_table: Option<IndexTable>,
    /// Whether the best plan depends on the values in the condition.
    pub plan: Plan,
}

/// A table that serves as an index of a list: each of its rows refers to a row of the list, and
/// repeats its sort key.
#[derive(Clone, Debug)]
pub struct IndexTable {
    /// The table.
    pub table: TableRef,
    /// The condition that joins it with the table of the list.
    pub on: Expr,
    /// Its columns that repeat the sort key.
    pub key: Vec<ColumnRef>,
}

impl<C: ColumnTrait> Part<C> {
    /// All rows; the database chooses the index.
    pub fn all(plan: Plan) -> Self {
        Self {
            condition: Condition::all(),
            prefix: None,
            index_table: None,
            plan,
        }
    }

    /// Adds a condition.
    pub fn and(self, condition: Expr) -> Self {
        Self {
            condition: self.condition.add(condition),
            ..self
        }
    }

    fn after(self, key: &[C], values: &[Expr], order: ListOrder) -> Self {
        let prefix = self.prefix.iter();
        let prefix = prefix.map(|(_, value)| Expr::val(value.as_str()));
        let values: Vec<Expr> = prefix.chain(values.iter().cloned()).collect();
        let is_after = is_after_in(&self.sort_key(key), values, order);
        self.and(is_after)
    }

    /// The columns by which the index of this part sorts its rows.
    fn sort_key(&self, key: &[C]) -> Vec<ColumnRef> {
        let prefix = self
            .prefix
            .iter()
            .map(|(column, _)| column.as_column_ref().into_column_ref());
        let key = match &self.index_table {
            Some(index) => index.key.clone(),
            None => column_refs(key),
        };
        prefix.chain(key).collect()
    }
}

/// Restricts the parts of a list to the rows after this key.
pub fn after<C: ColumnTrait>(
    parts: Vec<Part<C>>,
    key: &[C],
    values: &[Expr],
    order: ListOrder,
) -> Vec<Part<C>> {
    let after = |part: Part<C>| part.after(key, values, order);
    parts.into_iter().map(after).collect()
}

/// Returns a query of the first rows of all parts, which must not overlap, in the order of a key.
///
/// `rows` selects the rows of the table, and the last column of the key is unique.
pub fn first_rows<C: ColumnTrait>(
    backend: DbBackend,
    mut rows: SelectStatement,
    parts: Vec<Part<C>>,
    key: &[C],
    order: ListOrder,
    limit: u64,
    offset: Option<u64>,
) -> Planned<SelectStatement> {
    let plan = Plan::of_parts(parts.iter().map(|part| part.plan));
    let skip = |query: &mut SelectStatement| match offset {
        Some(offset) => query.offset(offset).take(),
        None => query.take(),
    };
    let read = |mut query: SelectStatement, part: Part<C>, limit: u64| {
        for column in part.sort_key(key) {
            query.order_by(column, direction(order));
        }
        if let Some(IndexTable { table, on, .. }) = part.index_table {
            query.inner_join(table, on);
        }
        query.cond_where(part.condition).limit(limit).take()
    };
    let parts = match <[Part<C>; 1]>::try_from(parts) {
        Ok([part]) => return Planned(skip(&mut read(rows, part, limit)), plan),
        Err(parts) => parts,
    };
    // Each part reads a whole page of keys; the long texts are read only for the rows that remain.
    let keys = rows
        .clone()
        .clear_selects()
        .columns(key.iter().map(|column| column.as_column_ref()))
        .take();
    let limit_of_part = Ord::min(ALL, limit.saturating_add(offset.unwrap_or(0)));
    let mut parts = parts.into_iter().map(|part| {
        Query::select()
            .column(Asterisk)
            .from_subquery(read(keys.clone(), part, limit_of_part), "part")
            .take()
    });
    let mut all_parts = parts.next().unwrap_or_default();
    all_parts.unions(parts.map(|part| (UnionType::All, part)));
    if let [.., unique] = key {
        let mut first = Query::select();
        first.column(*unique).from_subquery(all_parts, "part");
        for column in key {
            first.order_by(*column, direction(order));
        }
        let first = skip(first.limit(limit));
        let unique = Expr::col(unique.as_column_ref());
        rows.and_where(is_in_query(backend, unique, first));
    }
    order_by(&mut rows, key, order);
    Planned(rows, plan)
}

/// Orders a query by this key.
pub fn order_by(query: &mut SelectStatement, key: &[impl ColumnTrait], order: ListOrder) {
    for column in key {
        query.order_by(column.as_column_ref(), direction(order));
    }
}

fn column_refs(key: &[impl ColumnTrait]) -> Vec<ColumnRef> {
    let columns = key
        .iter()
        .map(|column| column.as_column_ref().into_column_ref());
    columns.collect()
}

fn direction(order: ListOrder) -> sea_orm::Order {
    match order {
        ListOrder::NewestFirst => sea_orm::Order::Desc,
        ListOrder::OldestFirst => sea_orm::Order::Asc,
    }
}

/// Returns the values of these columns, whatever their types: SQLite stores values of any type in
/// any column, and sorts values of different types.
pub fn raw_values(row: &Row, columns: &[impl IdenStatic]) -> Result<Vec<sea_orm::Value>> {
    let raw = |column: &str| {
        let number = row.get::<i64>(column).map(sea_orm::Value::from);
        number
            .or_else(|_| row.get::<String>(column).map(Into::into))
            .or_else(|_| row.get::<f64>(column).map(Into::into))
            .or_else(|_| row.get::<Vec<u8>>(column).map(Into::into))
    };
    let values = columns.iter().map(|column| raw(column.as_str()));
    values.collect::<Result<_, _>>().map_err(error::database)
}

/// Returns the position after which the next rows begin: that of the last row, if there are as many
/// as the limit with which they were fetched. `None` if nothing follows.
pub fn end(rows: &[Row], limit: u64, key: &[impl IdenStatic]) -> Result<Option<Vec<Expr>>> {
    let last = rows.last().filter(|_| rows.len() as u64 == limit);
    last.map(|row| position(row, key)).transpose()
}

/// Returns the values of these columns as operands that the database compares rows with.
pub fn position(row: &Row, columns: &[impl IdenStatic]) -> Result<Vec<Expr>> {
    let values = raw_values(row, columns)?;
    let operand = |(value, column): (sea_orm::Value, &_)| {
        // Text that isn't UTF-8 is read as bytes, and SQLite sorts all bytes after all text.
        let is_text =
            matches!(value, sea_orm::Value::Bytes(_)) && row.is_text(IdenStatic::as_str(column));
        let value = Expr::val(value);
        match is_text {
            true => value.cast_as("text"),
            false => value,
        }
    };
    Ok(values.into_iter().zip(columns).map(operand).collect())
}
