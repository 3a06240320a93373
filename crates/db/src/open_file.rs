//! Opening a SQLite file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sea_orm::sqlx::sqlite::SqliteSynchronous;
use sea_orm::{ConnectOptions as PoolOptions, Database, DatabaseConnection, DbErr};

use crate::connect::{Access, Intent};
use crate::connection::Pool;
use crate::direct::{Readers, SqliteFile};
use crate::sqlite_file;
use crate::sqlite_url::{self, Mode};
use crate::{DatabaseOptions, DriverErrorKind, Durability, Result};

impl DatabaseOptions {
    /// Opens the file with this access and Runtrail's settings.
    pub(crate) async fn open_file(
        &self,
        mut options: PoolOptions,
        access: Access,
        busy_timeout: Duration,
    ) -> Result<DatabaseConnection> {
        let url = self.url.sqlite()?;
        let may_create = url.mode == Mode::Create && self.intent == Intent::Any;
        if let Some(file) = url
            .file()
            .filter(|_| access == Access::Write || !may_create)
        {
            sqlite_file::prepare(file, may_create)?;
        }
        let driver = access.options(url).busy_timeout(busy_timeout);
        let driver = driver.synchronous(match self.durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Normal => SqliteSynchronous::Normal,
        });
        let driver = self.with_statement_log(driver);
        // An open file costs nothing, and a database in memory is lost with its last connection.
        if options.get_idle_timeout().is_none() {
            options.idle_timeout(None);
        }
        options
            .max_lifetime(None)
            .map_sqlx_sqlite_opts(move |_| driver.clone());
        self.connect(options).await
    }

    /// Opens a pool that only reads a file, with the access that the file permits.
    pub(crate) async fn open_file_to_read(&self) -> Result<Pool> {
        let (db, access) = self.open_to_read().await?;
        self.pool_of_readers(db, access)
    }

    /// Opens a pool that only reads a file that another pool writes.
    pub(crate) async fn open_file_readers(&self) -> Result<Pool> {
        let access = Access::ReadAlongsideWriter;
        let mut options = self.pool_options();
        if self.is_opened_directly() {
            options.max_connections(1).connect_lazy(true);
            self.release_when_idle(&mut options);
        }
        let db = self.open_file(options, access, self.busy_timeout).await?;
        self.pool_of_readers(db, access)
    }

    fn pool_of_readers(&self, db: DatabaseConnection, access: Access) -> Result<Pool> {
        let url = self.url.sqlite()?;
        let Some(path) = url.file().filter(|_| self.is_opened_directly()) else {
            return Ok(Pool::own(db, self.abandoned.clone()));
        };
        let file = SqliteFile {
            path: absolute(path),
            access,
            is_immutable: url.is_immutable || access == Access::ReadImmutable,
            durability: self.durability,
            busy_timeout: Duration::ZERO,
            logs_statements: self.logs_statements,
        };
        Ok(Pool::file_readers(db, Readers::new(file, self)))
    }

    /// Returns the file, if a store writes it without the driver.
    #[doc(hidden)]
    pub fn file_to_write(&self) -> Option<SqliteFile> {
        let url = self.url.sqlite().ok()?;
        let path = url.file().filter(|_| self.is_opened_directly())?;
        Some(SqliteFile {
            path: absolute(path),
            access: Access::Write,
            is_immutable: url.is_immutable,
            durability: self.durability,
            busy_timeout: self.queue_busy_timeout(),
            logs_statements: self.logs_statements,
        })
    }

    pub(crate) async fn open_to_read(&self) -> Result<(DatabaseConnection, Access)> {
        let url = self.url.sqlite()?;
        let file = url.file().unwrap_or(Path::new(""));
        sqlite_file::prepare(file, false)?;
        let access = Access::to_read(url);
        let opened = async {
            let db = self
                .open_file(self.pool_options(), access, self.busy_timeout)
                .await?;
            // SQLite opens the `-wal` and `-shm` files only when it reads the first page.
            match sqlite_file::read_first_page(&db).await {
                Ok(()) => Ok(db),
                Err(err) => {
                    let _ = db.close().await;
                    Err(err)
                }
            }
        };
        let err = match opened.await {
            Ok(db) => return Ok((db, access)),
            Err(err) => err,
        };
        let has_journal = sqlite_file::with_suffix(file, "-wal").exists()
            || sqlite_file::with_suffix(file, "-journal").exists();
        if access == Access::ReadImmutable || has_journal || !sqlite_file::is_wal(file) {
            return Err(err);
        }
        let db = self
            .open_file(
                self.pool_options(),
                Access::ReadImmutable,
                self.busy_timeout,
            )
            .await?;
        if sqlite_file::read_first_page(&db).await.is_err() {
            return Err(err);
        }
        tracing::warn!(
            "{self} is opened as immutable, since its folder can't be written: \
             no program may change it meanwhile"
        );
        Ok((db, Access::ReadImmutable))
    }

    /// Connects, and retries while the file is busy: SQLite's busy timeout doesn't cover the switch
    /// of a new file to the write-ahead log.
    async fn connect(&self, options: PoolOptions) -> Result<DatabaseConnection> {
        let started = Instant::now();
        loop {
            let err: DbErr = match Database::connect(options.clone()).await {
                Ok(connection) => return Ok(connection),
                Err(err) => err,
            };
            if DriverErrorKind::of(&err) != DriverErrorKind::Busy
                || started.elapsed() >= self.busy_timeout
            {
                return Err(err.into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Returns the path by which a connection that is opened later finds the same file, even if the
/// program changes its working directory meanwhile.
fn absolute(file: &Path) -> PathBuf {
    sqlite_url::canonical(file).unwrap_or_else(|| file.to_owned())
}
