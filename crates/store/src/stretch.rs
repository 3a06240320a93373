//! Reading a list in stretches, each with a query of its own.

use runtrail_audit::{Order, Result};
use sea_orm::{IdenStatic, QueryResult, Value};

use crate::codec;

/// Some rows of a list, and the key of the last one, from which the next stretch goes on.
pub(crate) struct Stretch<T> {
    /// A damaged row is an error among the others.
    pub(crate) records: Vec<Result<T>>,
    /// None where the list ends.
    pub(crate) end: Option<Vec<Value>>,
}

impl<T> Stretch<T> {
    /// Of rows that were fetched with this limit, ordered by these columns.
    pub(crate) fn of(
        rows: &[QueryResult],
        limit: u64,
        key: &[impl IdenStatic],
        decode: impl Fn(&QueryResult) -> Result<T>,
    ) -> Result<Self> {
        let last = rows.last().filter(|_| rows.len() as u64 == limit);
        let end = last.map(|row| codec::raw_values(row, key)).transpose()?;
        Ok(Self {
            records: rows.iter().map(decode).collect(),
            end,
        })
    }
}

/// The order as SQL has it.
pub(crate) fn direction(order: Order) -> sea_orm::Order {
    match order {
        Order::NewestFirst => sea_orm::Order::Desc,
        Order::OldestFirst => sea_orm::Order::Asc,
    }
}
