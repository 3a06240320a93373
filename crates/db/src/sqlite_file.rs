//! Creating, opening and recognising SQLite files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode};
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr, SqlxError};

use crate::connect::Access;
use crate::sqlite_url::{Location, SqliteUrl};
use crate::{ConnectError, DriverErrorKind, Result};

/// The size limit of the WAL file after a checkpoint: 64 MiB.
pub(crate) const JOURNAL_SIZE_LIMIT: &str = "67108864";

impl Access {
    /// Returns how to read a file without leaving other files behind.
    ///
    /// On a database in WAL mode, a read-only connection creates missing `-wal` and `-shm` files,
    /// and can't remove them. Without a `-wal` file, the connection is therefore a writable one,
    /// restricted by `query_only`.
    pub(crate) fn to_read(url: &SqliteUrl) -> Self {
        let Some(file) = url.file() else {
            return Self::Read;
        };
        if url.is_immutable {
            return Self::ReadImmutable;
        }
        match is_wal(file) && !with_suffix(file, "-wal").exists() {
            true => Self::ReadAlongsideWriter,
            false => Self::Read,
        }
    }

    pub(crate) fn options(self, url: &SqliteUrl) -> SqliteConnectOptions {
        let mut options = match &url.location {
            Location::File(file) => SqliteConnectOptions::new().filename(file),
            // The driver gives each in-memory database a unique name.
            Location::Memory(None) => "sqlite::memory:".parse().unwrap_or_default(),
            Location::Memory(Some(name)) => SqliteConnectOptions::new()
                .filename(name)
                .in_memory(true)
                .shared_cache(true),
        };
        if let Some(is_shared) = url.is_cache_shared {
            options = options.shared_cache(is_shared);
        }
        if let Some(vfs) = &url.vfs {
            options = options.vfs(vfs.clone());
        }
        options = options
            .foreign_keys(true)
            .immutable(url.is_immutable || self == Self::ReadImmutable)
            .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT);
        match (self, url.file()) {
            // Only for an empty file: a migration converts an existing one. On a file with content,
            // auto_vacuum has no effect, but still acquires the write lock.
            (Self::Write, Some(file)) if is_new(file) => options
                .journal_mode(SqliteJournalMode::Wal)
                .auto_vacuum(SqliteAutoVacuum::Incremental),
            (Self::Write, _) => options,
            (Self::ReadAlongsideWriter, _) => options.pragma("query_only", "ON"),
            (Self::Read | Self::ReadImmutable, _) => {
                options.read_only(true).pragma("query_only", "ON")
            }
        }
    }
}

/// Creates the file before SQLite does, so that only its owner can read it. SQLite gives its `-wal`
/// and `-shm` files the same mode.
pub(crate) fn prepare(file: &Path, may_create: bool) -> Result<()> {
    // Checks for a link, not for existence: another process may have created a regular file in the
    // meantime.
    let is_linked = || fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink());
    match fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        // Opening a named pipe would wait for its other end.
        Ok(_) => return Err(unusable("the path is not a regular file")),
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            return Err(ConnectError::NotUsable(err));
        }
        Err(_) if is_linked() => {
            return Err(unusable("the path is a link to a file that doesn't exist"));
        }
        Err(_) if !may_create => return Err(no_such_file(file)),
        Err(_) => {}
    }
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Ok(_) => Ok(()),
        // Another process has created the file.
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(err) => Err(ConnectError::NotCreated(err)),
    }
}

fn no_such_file(file: &Path) -> ConnectError {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => {
            unusable("the folder of the file doesn't exist")
        }
        _ => ConnectError::NoSuchFile,
    }
}

fn unusable(reason: &'static str) -> ConnectError {
    ConnectError::NotUsable(io::Error::other(reason))
}

/// Returns the path with a suffix, as in the names of SQLite's `-wal` and `-journal` files.
pub(crate) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}

/// Returns whether the file's header declares a write-ahead log:
/// <https://www.sqlite.org/fileformat2.html>.
pub(crate) fn is_wal(file: &Path) -> bool {
    let mut header = [0; 20];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header[18..] == [2, 2]
}

fn is_new(file: &Path) -> bool {
    fs::metadata(file).map_or(true, |file| file.len() == 0)
}

/// Reads the first page of the database.
pub(crate) async fn read_first_page(db: &DatabaseConnection) -> Result<()> {
    query(db, "PRAGMA schema_version").await
}

/// Switches another program's SQLite file to the write-ahead log; no effect on PostgreSQL.
pub async fn switch_to_write_ahead_log(db: &DatabaseConnection) -> Result<()> {
    if db.get_database_backend() != sea_orm::DbBackend::Sqlite {
        return Ok(());
    }
    // While another connection reads, SQLite refuses the switch immediately, without the busy
    // timeout.
    const PAUSE: Duration = Duration::from_millis(50);
    const TRIES: u32 = 100;

    DriverErrorKind::retry_while_busy(TRIES, PAUSE, || query(db, "PRAGMA journal_mode = WAL")).await
}

async fn query(db: &DatabaseConnection, sql: &'static str) -> Result<()> {
    let pool = db.get_sqlite_connection_pool();
    let done = sea_orm::sqlx::query(sql).execute(pool).await;
    done.map_err(|err: SqlxError| DbErr::Query(RuntimeErr::SqlxError(err.into())))?;
    Ok(())
}
