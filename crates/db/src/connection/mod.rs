//! The connections that statements run on.

mod borrowed;
mod held;
mod kept;
mod only_writer;
mod pool;
#[cfg(feature = "postgres")]
mod simple_protocol;

use std::fmt;

use sea_orm::ConnectionTrait;

pub use borrowed::Borrowed;
pub use held::Held;
pub use only_writer::OnlyWriter;
pub use pool::{Pool, Uncached, closing_deadline};

/// A connection that statements run on: a [`Pool`], a [`Held`] connection of one, or a [`Borrowed`] transaction.
///
/// Sealed: any other `ConnectionTrait` is [borrowed](Borrowed).
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
