use std::fmt;
use std::time::Duration;

use sea_orm::{ConnectOptions as PoolOptions, DatabaseConnection, DbBackend};

#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
use crate::ConnectError;
use crate::Result;
use crate::abandoned::AbandonedStatements;
use crate::connection::Pool;
use crate::database_url::DatabaseUrl;
use crate::sqlite_url::{self, Mode, SqliteUrl};

/// Which writes survive a power cut. Killing the process loses none either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// All acknowledged writes: SQLite waits for the disk at each commit (`synchronous=FULL`).
    #[default]
    Full,
    /// Several times faster: SQLite waits for the disk only occasionally (`synchronous=NORMAL`), so
    /// a power cut may lose the last acknowledged writes. The database stays consistent.
    Normal,
}

/// How Runtrail opens a database.
///
/// On SQLite, it uses the write-ahead log, enforces foreign keys, and opens one connection that
/// writes and a few that only read. A new file is accessible only to its owner (mode 0600) and can
/// shrink (`auto_vacuum=INCREMENTAL`). Only a migration switches an existing file to the
/// write-ahead log.
///
/// On PostgreSQL, it opens one pool and one additional connection that writes. The server's
/// settings determine which writes survive a power cut.
///
/// ```
/// use runtrail_db::{DatabaseOptions, Durability};
///
/// let file =
///     DatabaseOptions::new("sqlite://runtrail.db?mode=rwc").durability(Durability::Normal);
/// let server = DatabaseOptions::new("postgres://me:secret@db/app");
/// assert_eq!(server.to_string(), "postgres://me@db/app");
/// ```
#[derive(Clone)]
#[must_use]
pub struct DatabaseOptions {
    pub(crate) url: DatabaseUrl,
    pub(crate) intent: Intent,
    pub(crate) durability: Durability,
    pub(crate) max_connections: u32,
    pub(crate) acquire_timeout: Duration,
    pub(crate) busy_timeout: Duration,
    pub(crate) logs_statements: bool,
    pub(crate) abandoned: AbandonedStatements,
}

/// The purpose of opening a SQLite file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Determined by the mode in the URL.
    Any,
    /// Writing, without creating the file.
    WriteExisting,
    Read,
}

/// How connections access a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "sqlite"),
    expect(dead_code, reason = "there are no files without the feature")
)]
pub(crate) enum Access {
    Write,
    /// Writes no data, but may create the `-wal` and `-shm` files; the last connection that closes
    /// removes them.
    ReadAlongsideWriter,
    /// Opened read-only.
    Read,
    /// Opened read-only and immutable, without `-wal` and `-shm` files.
    ReadImmutable,
}

impl DatabaseOptions {
    /// Creates options for this database: `sqlite://FILE?mode=rwc` (`rwc` creates the file),
    /// `sqlite::memory:` (for tests), or `postgres://USER:PASSWORD@HOST/DATABASE`.
    ///
    /// The path of a SQLite file is read literally, except for `%XX` and the `?` that begins the
    /// parameters. A PostgreSQL URL may omit any part, as in psql:
    /// `postgres://USER@/DATABASE?host=/FOLDER`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: DatabaseUrl::parse(&url.into()),
            intent: Intent::Any,
            durability: Durability::default(),
            max_connections: 8,
            acquire_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(10),
            logs_statements: false,
            abandoned: AbandonedStatements::default(),
        }
    }

    /// Opens a SQLite file read-only, like `mode=ro` in its URL: it is never created, converted or
    /// written.
    ///
    /// In a folder that can't be written, a file without a `-wal` file is opened as immutable
    /// (`immutable=1`), with a warning through `tracing`. No effect on PostgreSQL.
    pub fn read_only(mut self) -> Self {
        self.intent = Intent::Read;
        self
    }

    /// Never creates a SQLite file, whatever its URL says. No effect on PostgreSQL.
    pub fn existing_only(mut self) -> Self {
        self.intent = Intent::WriteExisting;
        self
    }

    /// Sets which writes survive a power cut; [`Durability::Full`] by default. No effect on
    /// PostgreSQL.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the maximum number of open connections; 8 by default, from 1 to 10,000.
    ///
    /// One additional connection writes: on SQLite it executes all writes, on PostgreSQL the
    /// store's group commits. With a maximum of 1, the store opens exactly one connection to
    /// PostgreSQL, for roles that are limited to one, and doesn't group commits. On SQLite, two
    /// more connections serve migrations and the check of the schema. Each is closed after it has
    /// been idle for a minute.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.clamp(1, 10_000);
        self
    }

    /// Sets how long a call waits for a free connection before it fails with a timeout; 5 s by
    /// default, at most a year.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        /// The pool adds the timeout to the current time, which must not overflow.
        const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

        self.acquire_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Sets how long a SQLite statement waits for another process's lock before it fails; 10 s by
    /// default, at most 24 days.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        /// SQLite counts milliseconds in an `i32`.
        const MAX_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

        self.busy_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Returns the kind of database that the URL names.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl), which never repeats the URL,
    /// since it may contain a password.
    pub fn backend(&self) -> Result<DbBackend> {
        self.url.backend()
    }

    /// Returns whether the URL names a SQLite database.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.backend(), Ok(DbBackend::Sqlite))
    }

    /// Returns whether a SQLite file is opened read-only.
    pub fn is_read_only(&self) -> bool {
        let by_url = self.url.sqlite().is_ok_and(|url| url.mode == Mode::Read);
        by_url || self.intent == Intent::Read
    }

    /// Returns whether a store has a connection that writes for all callers.
    #[doc(hidden)]
    pub fn has_writer(&self) -> bool {
        match &self.url {
            DatabaseUrl::Sqlite(_) => self.is_in_memory() || !self.is_read_only(),
            _ => self.max_connections > 1,
        }
    }

    /// Returns whether both name the same file, or the same database of a server, even if they
    /// spell it differently.
    pub fn is_same_database(&self, other: &Self) -> bool {
        match (&self.url, &other.url) {
            (DatabaseUrl::Sqlite(one), DatabaseUrl::Sqlite(other)) => {
                let path = |url: &SqliteUrl| url.file().and_then(sqlite_url::canonical);
                path(one).is_some_and(|file| path(other).as_ref() == Some(&file))
            }
            #[cfg(feature = "postgres")]
            (DatabaseUrl::Postgres(one), DatabaseUrl::Postgres(other)) => {
                let (one, other) = (one.location(), other.location());
                one.is_ok_and(|one| other.is_ok_and(|other| one == other))
            }
            _ => false,
        }
    }

    /// Returns the tracker to which users of these pools report abandoned statements.
    #[doc(hidden)]
    pub fn abandoned(&self) -> &AbandonedStatements {
        &self.abandoned
    }

    /// Opens the only writing connection to a SQLite database. On PostgreSQL, and for a read-only
    /// SQLite file, opens the only pool.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl),
    /// [`ConnectError::NoSuchFile`](crate::ConnectError::NoSuchFile),
    /// [`ConnectError::Database`](crate::ConnectError::Database).
    pub async fn open(&self) -> Result<DatabaseConnection> {
        self.open_with(self.pool_options(), self.busy_timeout).await
    }

    async fn open_with(
        &self,
        mut options: PoolOptions,
        busy_timeout: Duration,
    ) -> Result<DatabaseConnection> {
        if self.backend()? != DbBackend::Sqlite {
            return self.open_server(self.pool_options()).await;
        }
        if self.is_read_only() && !self.is_in_memory() {
            return Ok(self.open_to_read().await?.0);
        }
        // Several writers would wait for each other inside SQLite, less fairly than in the pool's
        // queue.
        options.max_connections(1);
        // A database in memory is lost with its last connection.
        if options.get_idle_timeout().is_none() {
            options.min_connections(1);
        }
        self.open_file(options, Access::Write, busy_timeout).await
    }

    /// Like [`open`](Self::open), for a queue of writers, each with a deadline: on SQLite, a
    /// statement fails early while another process holds the lock.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    #[doc(hidden)]
    pub async fn open_for_queue(&self) -> Result<DatabaseConnection> {
        let mut options = self.pool_options();
        self.release_when_idle(&mut options);
        self.open_with(options, self.queue_busy_timeout()).await
    }

    /// How long a statement of the queue waits inside SQLite for another process's lock.
    pub(crate) fn queue_busy_timeout(&self) -> Duration {
        /// Long enough to make the cost of retries negligible.
        const SHORT_BUSY_TIMEOUT: Duration = Duration::from_millis(200);

        self.busy_timeout.min(SHORT_BUSY_TIMEOUT)
    }

    /// Lets the pool close idle connections to a file that is mostly used without the driver.
    pub(crate) fn release_when_idle(&self, options: &mut PoolOptions) {
        const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

        if self.is_opened_directly() {
            options.idle_timeout(IDLE_TIMEOUT);
        }
    }

    /// Returns whether a file is read and written without the driver. Only the driver supports `vfs`
    /// and `cache=shared`.
    pub(crate) fn is_opened_directly(&self) -> bool {
        self.url.sqlite().is_ok_and(|url| {
            url.file().is_some() && url.vfs.is_none() && url.is_cache_shared != Some(true)
        })
    }

    /// Returns how long each writer of the queue waits for another process's lock on the file;
    /// `None` on PostgreSQL, which has no such lock.
    #[doc(hidden)]
    pub fn queue_timeout(&self) -> Option<Duration> {
        let is_sqlite = self.backend().is_ok_and(|kind| kind == DbBackend::Sqlite);
        is_sqlite.then_some(self.busy_timeout)
    }

    /// Opens the pool of a store that has no [writer](Self::has_writer).
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    #[doc(hidden)]
    pub async fn open_pool(&self) -> Result<Pool> {
        #[cfg(feature = "sqlite")]
        if self.is_sqlite() && !self.is_in_memory() {
            return self.open_file_to_read().await;
        }
        let db = self.open().await?;
        Ok(Pool::own(db, self.abandoned.clone()))
    }

    /// Opens connections that only read, in addition to the one from [`open`](Self::open). Returns
    /// `None` if that one serves all statements: on PostgreSQL, and for a database in memory.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl),
    /// [`ConnectError::Database`](crate::ConnectError::Database).
    #[doc(hidden)]
    pub async fn open_readers(&self) -> Result<Option<Pool>> {
        if self.backend()? != DbBackend::Sqlite || self.is_in_memory() {
            return Ok(None);
        }
        #[cfg(feature = "sqlite")]
        return self.open_file_readers().await.map(Some);
        #[cfg(not(feature = "sqlite"))]
        Ok(None)
    }

    /// Opens connections that read another program's SQLite file without changing anything in it,
    /// not even its journal mode. SQLite still rolls back a transaction during which that program
    /// was killed.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl), also for PostgreSQL;
    /// [`ConnectError::NoSuchFile`](crate::ConnectError::NoSuchFile),
    /// [`ConnectError::Database`](crate::ConnectError::Database).
    pub async fn open_unchanged(&self) -> Result<DatabaseConnection> {
        self.url.sqlite()?;
        self.open_file(
            self.pool_options(),
            Access::ReadAlongsideWriter,
            self.busy_timeout,
        )
        .await
    }

    /// Enables the driver's statement log; off by default, since formatting a statement costs more
    /// than executing some statements.
    ///
    /// The target is `sqlx::query`. Each statement is logged at debug level, and at warn level if
    /// it takes longer than a second. The text holds no values, except in a store [without prepared
    /// statements](crate::Pool::without_prepared_statements), where it holds all of them. The spans
    /// of this library need no option, and never hold values.
    pub fn log_statements(mut self, enabled: bool) -> Self {
        self.logs_statements = enabled;
        self
    }

    /// Returns a pool of one connection for a task that writes: on SQLite the one from
    /// [`open`](Self::open), on PostgreSQL an additional one, which connects on first use.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl),
    /// [`ConnectError::Database`](crate::ConnectError::Database).
    pub async fn open_writer(&self, opened: &DatabaseConnection) -> Result<DatabaseConnection> {
        if self.backend()? == DbBackend::Sqlite {
            return Ok(opened.clone());
        }
        let mut options = self.pool_options();
        options.max_connections(1).connect_lazy(true);
        self.open_server(options).await
    }

    /// Returns the pool's options. SeaORM writes their URL into spans and messages, so that URL
    /// names only the kind of database. The driver's options contain the rest, and never appear
    /// there.
    pub(crate) fn pool_options(&self) -> PoolOptions {
        let mut options = PoolOptions::new(match self.url {
            DatabaseUrl::Postgres(_) => "postgres://",
            _ => "sqlite::memory:",
        });
        options
            .max_connections(self.max_connections)
            .acquire_timeout(self.acquire_timeout)
            // A ping before each statement would double the round trips.
            .test_before_acquire_if_idle_for(Duration::from_secs(30))
            // `with_statement_log` controls logging instead.
            .sqlx_logging(false)
            .record_stmt_in_spans(false);
        #[cfg(feature = "postgres")]
        self.abandoned.limit_release_wait(&mut options);
        options
    }

    pub(crate) fn with_statement_log<O: sea_orm::sqlx::ConnectOptions>(&self, driver: O) -> O {
        match self.logs_statements {
            true => driver,
            false => driver.disable_statement_logging(),
        }
    }

    #[cfg(not(feature = "postgres"))]
    async fn open_server(&self, _options: PoolOptions) -> Result<DatabaseConnection> {
        Err(self.missing_feature())
    }

    #[cfg(not(feature = "sqlite"))]
    async fn open_file(
        &self,
        _options: PoolOptions,
        _access: Access,
        _busy_timeout: Duration,
    ) -> Result<DatabaseConnection> {
        Err(self.missing_feature())
    }

    #[cfg(not(feature = "sqlite"))]
    async fn open_to_read(&self) -> Result<(DatabaseConnection, Access)> {
        Err(self.missing_feature())
    }

    #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
    fn missing_feature(&self) -> ConnectError {
        self.backend().err().unwrap_or(ConnectError::InvalidUrl {
            reason: crate::database_url::MISSING_FEATURE,
        })
    }

    /// Returns the SQLite file; `None` for a database in memory, and for PostgreSQL.
    pub fn sqlite_file(&self) -> Option<&std::path::Path> {
        self.url.sqlite().ok()?.file()
    }

    /// Returns whether this is a SQLite database in memory, which is lost when the process ends.
    pub fn is_in_memory(&self) -> bool {
        self.url.sqlite().is_ok_and(|url| url.file().is_none())
    }
}

impl From<&str> for DatabaseOptions {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<&String> for DatabaseOptions {
    fn from(url: &String) -> Self {
        Self::new(url)
    }
}

impl From<String> for DatabaseOptions {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

/// Prints where the database is. Omits the password, and any text that may be one in a mistyped
/// URL.
impl fmt::Display for DatabaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for DatabaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseOptions")
            .field("url", &self.to_string())
            .field("intent", &self.intent)
            .field("durability", &self.durability)
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("busy_timeout", &self.busy_timeout)
            .field("logs_statements", &self.logs_statements)
            .finish()
    }
}
