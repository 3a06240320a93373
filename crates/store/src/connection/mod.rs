//! The connections that a store runs on.

mod borrowed;
mod pool;
#[cfg(feature = "postgres")]
mod simple_protocol;

use std::fmt;

use runtrail_audit::Error;
use sea_orm::{ConnectionTrait, DatabaseConnection};

pub use borrowed::Borrowed;
pub use pool::Pool;

/// A connection that a store can run on: a [`Pool`], or a [`Borrowed`] transaction.
///
/// Sealed: any other `ConnectionTrait` comes in through [`AuditStore::on`](crate::AuditStore::on).
pub trait Connection: ConnectionTrait + Send + fmt::Debug + sealed::Sealed {
    /// The connection on which migrations can begin a transaction; none inside of somebody else's.
    #[doc(hidden)]
    fn migratable(&self) -> Option<&DatabaseConnection>;

    /// Whether a statement commits by itself, so that it can be repeated.
    #[doc(hidden)]
    fn can_retry(&self) -> bool;

    /// Told of a statement's failure before it is repeated.
    #[doc(hidden)]
    fn on_failure(&self, err: &Error);
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Pool {}
    impl<C> Sealed for super::Borrowed<'_, C> {}
}
