//! Keyset pagination: a list continues after the key of a row, not after a number of rows.

use runtrail_audit::{ListOrder, Result};
use sea_orm::sea_query::{Expr, ExprTrait, SelectStatement};
use sea_orm::{ColumnTrait, IdenStatic};

use crate::{Row, error};

/// Returns a condition that is true for the rows after this key in this order.
///
/// The condition compares row values, which lets the database seek in an index. Equivalent
/// comparisons of single columns would scan the index from its start.
pub fn is_after(key: &[impl ColumnTrait], values: Vec<impl Into<Expr>>, order: ListOrder) -> Expr {
    let columns = Expr::tuple(key.iter().map(|column| Expr::col(column.as_column_ref())));
    let values = Expr::tuple(values.into_iter().map(Into::into));
    match order {
        ListOrder::NewestFirst => columns.lt(values),
        ListOrder::OldestFirst => columns.gt(values),
    }
}

/// Like [`is_after`], for rows that all have this value in the column `prefix`, and are read from an
/// index that begins with that column.
pub fn is_after_in<C: ColumnTrait>(
    prefix: Option<&(C, String)>,
    key: &[C],
    values: Vec<impl Into<Expr>>,
    order: ListOrder,
) -> Expr {
    let values = values.into_iter().map(Into::into);
    match prefix {
        None => is_after(key, values.collect(), order),
        Some((column, value)) => {
            let key: Vec<C> = [*column].into_iter().chain(key.iter().copied()).collect();
            let value = Expr::val(value.as_str());
            is_after(&key, [value].into_iter().chain(values).collect(), order)
        }
    }
}

/// Like [`order_by`], for rows that all have one value in the column `prefix`, and are read from an
/// index that begins with that column.
pub fn order_by_in<C: ColumnTrait>(
    query: &mut SelectStatement,
    prefix: Option<&(C, String)>,
    key: &[C],
    order: ListOrder,
) {
    if let Some((column, _)) = prefix {
        order_by(query, &[*column], order);
    }
    order_by(query, key, order);
}

/// Orders a query by this key.
pub fn order_by(query: &mut SelectStatement, key: &[impl ColumnTrait], order: ListOrder) {
    let direction = match order {
        ListOrder::NewestFirst => sea_orm::Order::Desc,
        ListOrder::OldestFirst => sea_orm::Order::Asc,
    };
    for column in key {
        query.order_by(column.as_column_ref(), direction.clone());
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
