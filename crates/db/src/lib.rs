//! The database layer for SQLite and PostgreSQL.
//!
//! This crate handles URLs, pragmas, pools, driver error codes, retries and deadlines. It knows no
//! tables.
//!
//! - [`DatabaseOptions`] opens a database.
//! - [`Pool`] is a database that Runtrail or a host has opened. [`Borrowed`] is a host's open
//!   transaction.
//! - [`Session`] executes the statements of one call on either of them, within the limits of the
//!   call's [`Timing`].

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("runtrail-db needs one of the features `sqlite` and `postgres`");

mod session;

mod retry;
mod timing;

mod connection;

mod abandoned;
mod connect;
mod connect_error;
mod database_url;
#[cfg(feature = "sqlite")]
mod direct;
#[cfg(feature = "sqlite")]
mod open_file;
#[cfg(feature = "postgres")]
mod open_server;
mod open_transactions;
mod postgres_url;
#[cfg(feature = "sqlite")]
mod sqlite_file;
mod sqlite_url;

pub mod backend;
mod driver_error_kind;
pub mod error;
pub mod keyset;
mod row;
pub mod runtime;
mod shape;

#[doc(hidden)]
pub use abandoned::AbandonedStatements;
pub use connect::{DatabaseOptions, Durability};
pub use connect_error::{ConnectError, Result};
pub use connection::{
    Borrowed, Connection, Cost, Executor, OnlyWriter, Plan, Pool, PooledConnection, Uncached,
    closing_deadline,
};
#[cfg(feature = "sqlite")]
#[doc(hidden)]
pub use direct::{FileConnection, SqliteFile};
pub use driver_error_kind::DriverErrorKind;
pub use open_transactions::discard_open_transactions;
pub use retry::Retry;
pub use row::{Row, RowIndex, RowValue};
pub use session::Session;
pub use shape::{Executable, Planned, Shape, ShapedStatement};
#[cfg(feature = "sqlite")]
pub use sqlite_file::switch_to_write_ahead_log;
pub use timing::Timing;
