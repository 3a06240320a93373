//! The connections that a store runs on.

mod borrowed;
mod held;
mod kept;
mod pool;
#[cfg(feature = "postgres")]
mod simple_protocol;

use std::fmt;

use sea_orm::ConnectionTrait;

pub use borrowed::Borrowed;
pub(crate) use held::Held;
pub use pool::Pool;
pub(crate) use pool::closing_deadline;

/// A connection that a store can run on: a [`Pool`], or a [`Borrowed`] transaction.
///
/// Sealed: any other `ConnectionTrait` comes in through [`AuditStore::on`](crate::AuditStore::on).
pub trait Connection: ConnectionTrait + Send + fmt::Debug + sealed::Sealed {
    /// The pool, on which each statement commits by itself and can be repeated; none inside of somebody else's
    /// transaction.
    #[doc(hidden)]
    fn pool(&self) -> Option<&Pool>;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Held {}
    impl Sealed for super::Pool {}
    impl<C> Sealed for super::Borrowed<'_, C> {}
}
