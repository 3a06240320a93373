//! SQLite files: how they are made, opened and recognised.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode};
use sea_orm::{DatabaseConnection, DbBackend, DbErr, RuntimeErr, SqlxError};

use crate::connect::Access;
use crate::sqlite_url::{Place, SqliteUrl};
use crate::{Error, Result};

impl Access {
    /// How to read a file without leaving a trace.
    ///
    /// A read-only connection to a write-ahead log makes the files beside it, if they aren't there, and can't remove
    /// them. So where there is no log, the connection may write, and doesn't.
    pub(crate) fn to_read(url: &SqliteUrl) -> Self {
        let Some(file) = url.file() else {
            return Self::Read;
        };
        if url.is_immutable {
            return Self::ReadAlone;
        }
        match is_wal(file) && !beside(file, "-wal").exists() {
            true => Self::ReadBesideWriter,
            false => Self::Read,
        }
    }

    pub(crate) fn options(self, url: &SqliteUrl) -> SqliteConnectOptions {
        /// What the WAL file may keep on disk after a checkpoint: 64 MiB.
        const JOURNAL_SIZE_LIMIT: &str = "67108864";

        let mut options = match &url.place {
            Place::File(file) => SqliteConnectOptions::new().filename(file),
            // The driver gives each one a name of its own.
            Place::Memory(None) => "sqlite::memory:".parse().unwrap_or_default(),
            Place::Memory(Some(name)) => SqliteConnectOptions::new()
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
            .immutable(url.is_immutable || self == Self::ReadAlone)
            .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
            .disable_statement_logging();
        match (self, url.file()) {
            // Only where nothing is in it: of a file that is there, a migration decides. Later the second one has no
            // effect, but takes the write lock all the same.
            (Self::Write, Some(file)) if is_new(file) => options
                .journal_mode(SqliteJournalMode::Wal)
                .auto_vacuum(SqliteAutoVacuum::Incremental),
            (Self::Write, _) => options,
            (Self::ReadBesideWriter, _) => options.pragma("query_only", "ON"),
            (Self::Read | Self::ReadAlone, _) => options.read_only(true).pragma("query_only", "ON"),
        }
    }
}

/// Makes a file before SQLite does: readable by its owner only, and so are the files that SQLite makes beside it.
pub(crate) fn prepare(file: &Path, may_create: bool) -> Result<()> {
    if fs::metadata(file).is_ok() {
        return Ok(());
    }
    if !may_create {
        return Err(Error::NoSuchFile);
    }
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(err) => Err(Error::NotCreated(err)),
    }
}

/// The file that SQLite makes beside it, by how its name ends.
pub(crate) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    name.into()
}

/// Whether the file says of itself that it has a write-ahead log: <https://www.sqlite.org/fileformat2.html>.
pub(crate) fn is_wal(file: &Path) -> bool {
    let mut header = [0; 20];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header[18..] == [2, 2]
}

fn is_new(file: &Path) -> bool {
    fs::metadata(file).map_or(true, |file| file.len() == 0)
}

/// Reads as little as there is.
pub(crate) async fn read_first_page(db: &DatabaseConnection) -> Result<()> {
    query(db, "PRAGMA schema_version").await
}

/// Gives a SQLite file that another program has made the write-ahead log that ours have; no effect on PostgreSQL.
pub(crate) async fn switch_to_write_ahead_log(db: &DatabaseConnection) -> Result<()> {
    if db.get_database_backend() != DbBackend::Sqlite {
        return Ok(());
    }
    query(db, "PRAGMA journal_mode = WAL").await
}

async fn query(db: &DatabaseConnection, sql: &'static str) -> Result<()> {
    let pool = db.get_sqlite_connection_pool();
    let done = sea_orm::sqlx::query(sql).execute(pool).await;
    done.map_err(|err: SqlxError| DbErr::Query(RuntimeErr::SqlxError(err.into())))?;
    Ok(())
}
