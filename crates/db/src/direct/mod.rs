//! Reading SQLite files without SeaORM's driver.
//!
//! The driver runs each connection on a thread of its own, and hands over the rows one by one. For
//! a short query, that takes several times as long as the query. A store that owns its file
//! therefore reads it through connections of its own: a short query runs on the thread of its
//! caller, and a query that turns out to be long starts again on a thread of its own.
//!
//! sqlx 0.9 can't do this. `sea-orm-sync` 2.0 can, but as a separate build of SeaORM on an older
//! SQLite. If either changes, this module may become unnecessary.

mod error;
mod file;
mod pace;
mod reader;
mod readers;
mod row;
mod thread;

pub(crate) use file::ReadableFile;
pub(crate) use readers::Readers;
pub(crate) use row::{Cell, DirectRow};
