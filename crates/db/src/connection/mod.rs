//! The connections that statements run on.

mod borrowed;
mod connection_cache;
mod only_writer;
mod pool;
mod pooled_connection;
#[cfg(feature = "postgres")]
mod simple_protocol;

use std::fmt;

use sea_orm::ConnectionTrait;

pub use borrowed::Borrowed;
pub use only_writer::OnlyWriter;
pub use pool::{Pool, Uncached, closing_deadline};
pub use pooled_connection::PooledConnection;

/// A connection that statements run on: a [`Pool`], a [`PooledConnection`], or a [`Borrowed`]
/// transaction.
///
/// Sealed: any other `ConnectionTrait` is wrapped in [`Borrowed`].
pub trait Connection: ConnectionTrait + Send + fmt::Debug + sealed::Sealed {
    /// Returns the pool, on which each statement commits on its own and can be repeated. `None` for
    /// a borrowed or checked-out connection, whose owner decides what is retried.
    #[doc(hidden)]
    fn pool(&self) -> Option<&Pool>;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::PooledConnection {}
    impl Sealed for super::Pool {}
    impl<C> Sealed for super::Borrowed<'_, C> {}
}
