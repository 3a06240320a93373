//! Opening a SQLite file.

use std::path::Path;
use std::time::{Duration, Instant};

use sea_orm::sqlx::sqlite::SqliteSynchronous;
use sea_orm::{ConnectOptions as PoolOptions, Database, DatabaseConnection, DbErr};

use crate::connect::{Access, Intent};
use crate::sqlite_file;
use crate::sqlite_url::Mode;
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
        options
            // An open file costs nothing, and a database in memory is lost with its last
            // connection.
            .idle_timeout(None)
            .max_lifetime(None)
            .map_sqlx_sqlite_opts(move |_| driver.clone());
        self.connect(options).await
    }

    pub(crate) async fn open_to_read(&self) -> Result<DatabaseConnection> {
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
            Ok(db) => return Ok(db),
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
        Ok(db)
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
