//! Reading and writing SQLite files without SeaORM's driver.
//!
//! The driver runs each connection on a separate thread, and hands over the rows one by one. For a
//! short query, that takes several times as long as the query. A store that owns its file therefore
//! uses it without the driver:
//!
//! - A short query runs on the thread of its caller, and a query that turns out to be long starts
//!   again on a separate thread.
//! - Writes run on one thread that owns the only connection that writes.
//!
//! sqlx 0.9 can't do this. `sea-orm-sync` 2.0 can, but it is a separate build of SeaORM, with an
//! older SQLite. If either changes, this module may become unnecessary.

mod error;
mod file;
mod file_connection;
mod pace;
mod reader;
mod readers;
mod row;
mod statement_log;
mod statements;
mod thread;

pub use file::SqliteFile;
pub use file_connection::FileConnection;
pub(crate) use readers::Readers;
pub(crate) use row::{Cell, DirectRow};
