use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::{Connection, OpenFlags};
use sea_orm::DbErr;

use super::{FileConnection, error};
use crate::Durability;
use crate::connect::Access;
use crate::sqlite_file::JOURNAL_SIZE_LIMIT;

/// How to open another connection to a SQLite file that has been opened before.
#[derive(Clone, Debug)]
pub struct SqliteFile {
    pub(crate) path: PathBuf,
    pub(crate) access: Access,
    pub(crate) is_immutable: bool,
    pub(crate) durability: Durability,
    /// How long a connection that writes waits inside SQLite for another process's lock.
    pub(crate) busy_timeout: Duration,
    pub(crate) logs_statements: bool,
}

impl SqliteFile {
    /// Opens a connection that writes; the calling thread waits for it.
    ///
    /// # Errors
    ///
    /// SQLite's own failures.
    pub fn open_to_write(&self) -> Result<FileConnection, DbErr> {
        FileConnection::open(self).map_err(error::database)
    }

    /// Opens a connection. One that only reads fails instead of waiting for a lock.
    pub(super) fn open(&self) -> rusqlite::Result<Connection> {
        let mode = match self.access {
            Access::Write | Access::ReadAlongsideWriter => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Access::Read | Access::ReadImmutable => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        // No two threads use a connection at the same time.
        let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match self.is_immutable {
            true => Connection::open_with_flags(
                immutable_uri(&self.path),
                flags | OpenFlags::SQLITE_OPEN_URI,
            )?,
            false => Connection::open_with_flags(&self.path, flags)?,
        };
        connection.busy_timeout(match self.access {
            Access::Write => self.busy_timeout,
            _ => Duration::ZERO,
        })?;
        // Even a connection that only reads writes the WAL back if it is the last one to close.
        connection.pragma_update(
            None,
            "synchronous",
            match self.durability {
                Durability::Full => "FULL",
                Durability::Normal => "NORMAL",
            },
        )?;
        connection.pragma_update_and_check(
            None,
            "journal_size_limit",
            JOURNAL_SIZE_LIMIT,
            |_| Ok(()),
        )?;
        match self.access {
            Access::Write => connection.pragma_update(None, "foreign_keys", "ON")?,
            _ => connection.pragma_update(None, "query_only", "ON")?,
        }
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        // Loads the schema and the planner's statistics, which must not be interrupted.
        connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    }
}

/// The number of statements that a connection keeps prepared; a store has fewer shapes of queries.
pub(super) const PREPARED_STATEMENTS: usize = 100;

fn immutable_uri(file: &Path) -> String {
    // The path came from a URL, so it is UTF-8.
    let path = file.to_string_lossy();
    let escaped = utf8_percent_encode(&path, NON_ALPHANUMERIC);
    format!("file:{escaped}?immutable=1")
}
