//! Going on in a list from the key of a row, rather than from a number of rows.

use runtrail_audit::{ListOrder, Result};
use sea_orm::sea_query::{Expr, ExprTrait, SelectStatement};
use sea_orm::{ColumnTrait, IdenStatic, QueryResult};

use crate::{backend, error};

/// What comes after this key in the order. As a comparison of rows, which an index is entered by; the comparisons of
/// each column that mean the same would read it from its start.
pub fn beyond(key: &[impl ColumnTrait], values: Vec<impl Into<Expr>>, order: ListOrder) -> Expr {
    let place = Expr::tuple(key.iter().map(|column| Expr::col(column.as_column_ref())));
    let values = Expr::tuple(values.into_iter().map(Into::into));
    match order {
        ListOrder::NewestFirst => place.lt(values),
        ListOrder::OldestFirst => place.gt(values),
    }
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

/// The values of these columns, of whatever type they are: SQLite holds any in any column, and has an order for
/// them all.
pub fn raw_values(row: &QueryResult, columns: &[impl IdenStatic]) -> Result<Vec<sea_orm::Value>> {
    let raw = |column: &str| {
        let number = row.try_get::<i64>("", column).map(sea_orm::Value::from);
        number
            .or_else(|_| row.try_get::<String>("", column).map(Into::into))
            .or_else(|_| row.try_get::<f64>("", column).map(Into::into))
            .or_else(|_| row.try_get::<Vec<u8>>("", column).map(Into::into))
    };
    let values = columns.iter().map(|column| raw(column.as_str()));
    values.collect::<Result<_, _>>().map_err(error::database)
}

/// The values of these columns, for rows to be compared with them by the database.
pub fn position(row: &QueryResult, columns: &[impl IdenStatic]) -> Result<Vec<Expr>> {
    let values = raw_values(row, columns)?;
    let operand = |(value, column): (sea_orm::Value, &_)| {
        // Text that isn't UTF-8 comes as bytes, and those would be compared with text by their type alone.
        let is_text = matches!(value, sea_orm::Value::Bytes(_))
            && backend::is_text(row, IdenStatic::as_str(column));
        let value = Expr::val(value);
        match is_text {
            true => value.cast_as("text"),
            false => value,
        }
    };
    Ok(values.into_iter().zip(columns).map(operand).collect())
}
