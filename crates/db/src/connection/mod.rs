//! The connections that statements run on.

mod borrowed;
mod connection_cache;
mod only_writer;
mod pool;
mod pooled_connection;
#[cfg(feature = "postgres")]
mod simple_protocol;

use std::fmt;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement};

use crate::Row;

pub use borrowed::Borrowed;
pub use only_writer::OnlyWriter;
pub use pool::{Pool, Uncached, closing_deadline};
pub use pooled_connection::PooledConnection;

/// Executes the statements of a [`Session`](crate::Session): a [`Connection`], or a connection to a
/// SQLite file that SeaORM's driver doesn't know.
///
/// Sealed: any `ConnectionTrait` is wrapped in [`Borrowed`].
#[async_trait]
pub trait Executor: fmt::Debug + Send + Sync + sealed::Sealed {
    /// Returns the kind of database.
    fn backend(&self) -> DbBackend;

    /// Returns the pool, on which each statement commits on its own and can be repeated. `None` for
    /// a borrowed or checked-out connection, whose owner decides what is retried.
    #[doc(hidden)]
    fn pool(&self) -> Option<&Pool>;

    /// Fetches all rows of a query.
    #[doc(hidden)]
    async fn rows(&self, query: Statement, cost: Cost, plan: Plan) -> Result<Vec<Row>, DbErr>;

    /// Executes a statement that returns no rows; returns the number of rows that it has written or
    /// deleted.
    #[doc(hidden)]
    async fn changes(&self, statement: Statement) -> Result<u64, DbErr>;

    /// Executes a statement whose parts write, and which selects one row with the number of rows
    /// that each part has written.
    #[doc(hidden)]
    async fn changes_of_parts(
        &self,
        statement: Statement,
        parts: usize,
    ) -> Result<Vec<u64>, DbErr> {
        let rows = self.rows(statement, Cost::Short, Plan::ByValues).await?;
        changes_of_parts(&rows, parts)
    }
}

fn changes_of_parts(rows: &[Row], parts: usize) -> Result<Vec<u64>, DbErr> {
    let changes = (0..parts).map(|part| match rows.first() {
        Some(row) => row.get::<i64>(part).map(i64::unsigned_abs),
        None => Ok(0),
    });
    changes.collect()
}

/// A connection of SeaORM that statements run on: a [`Pool`], a [`PooledConnection`], or a
/// [`Borrowed`] transaction.
pub trait Connection: Executor + ConnectionTrait {}

impl<T: Executor + ConnectionTrait> Connection for T {}

fn rows_of_driver(rows: Vec<QueryResult>) -> Vec<Row> {
    rows.into_iter().map(Row::from).collect()
}

/// How long a query is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cost {
    /// Usually less than a millisecond, as for a page of a list.
    Short,
    /// Depends on the amount of data, as for the count of a few rows or of many; probably about as
    /// much as the last such query.
    Varying,
    /// Usually more than a millisecond, or a query that SQLite can't stop, such as a count without
    /// a condition.
    Long,
}

/// Whether the best plan of a query depends on the values of its parameters. Only Runtrail's own
/// connections to a SQLite file make use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plan {
    /// The database may look at the values. SQLite then plans the query again whenever they change.
    ByValues,
    /// The same plan is best for all values, usually since only one index fits.
    Fixed,
}

impl Plan {
    /// Returns the plan of a query that consists of several ones.
    pub fn of_parts(parts: impl IntoIterator<Item = Self>) -> Self {
        match parts.into_iter().all(|part| part == Self::Fixed) {
            true => Self::Fixed,
            false => Self::ByValues,
        }
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::PooledConnection {}
    impl Sealed for super::Pool {}
    impl<C> Sealed for super::Borrowed<'_, C> {}
    #[cfg(feature = "sqlite")]
    impl Sealed for crate::FileConnection {}
}
