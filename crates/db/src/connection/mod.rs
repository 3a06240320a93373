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
use sea_orm::{ConnectionTrait, DbErr, Statement};

use crate::Row;

pub use borrowed::Borrowed;
pub use only_writer::OnlyWriter;
pub use pool::{Pool, Uncached, closing_deadline};
pub use pooled_connection::PooledConnection;

/// A connection that statements run on: a [`Pool`], a [`PooledConnection`], or a [`Borrowed`]
/// transaction.
///
/// Sealed: any other `ConnectionTrait` is wrapped in [`Borrowed`].
#[async_trait]
pub trait Connection: ConnectionTrait + Send + fmt::Debug + sealed::Sealed {
    /// Returns the pool, on which each statement commits on its own and can be repeated. `None` for
    /// a borrowed or checked-out connection, whose owner decides what is retried.
    #[doc(hidden)]
    fn pool(&self) -> Option<&Pool>;

    /// Fetches all rows of a query.
    #[doc(hidden)]
    async fn rows(&self, query: Statement, cost: Cost) -> Result<Vec<Row>, DbErr> {
        let _ = cost;
        rows_of_driver(self, query).await
    }
}

/// Fetches all rows of a query through SeaORM's driver.
async fn rows_of_driver(
    connection: &(impl ConnectionTrait + ?Sized),
    query: Statement,
) -> Result<Vec<Row>, DbErr> {
    let rows = connection.query_all_raw(query).await?;
    Ok(rows.into_iter().map(Row::from).collect())
}

/// How long a query is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cost {
    /// Usually less than a millisecond, as for a page of a list.
    Short,
    /// Depends on the amount of data, as for a count.
    Long,
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::PooledConnection {}
    impl Sealed for super::Pool {}
    impl<C> Sealed for super::Borrowed<'_, C> {}
}
