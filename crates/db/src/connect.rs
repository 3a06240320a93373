use std::fmt;
use std::time::Duration;

use sea_orm::{ConnectOptions as PoolOptions, DatabaseConnection, DbBackend};

#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
use crate::ConnectError;
use crate::Result;
use crate::abandoned::AbandonedStatements;
use crate::database_url::DatabaseUrl;
use crate::sqlite_url::{self, Mode, SqliteUrl};

/// What survives a power cut. Killing the process loses nothing either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Every acknowledged write does: SQLite waits for the disk at each commit (`synchronous=FULL`).
    #[default]
    Full,
    /// Several times faster: SQLite waits for the disk only now and then (`synchronous=NORMAL`), so a power cut
    /// may take the last acknowledged writes. The database stays consistent.
    Normal,
}

/// How Runtrail opens a database of its own.
///
/// On SQLite: write-ahead log, foreign keys on, one connection that writes and a few that only read. Only its owner can
/// read a new file (mode 0600), and the file can shrink again (`auto_vacuum=INCREMENTAL`). Only a migration switches an
/// existing file to the write-ahead log.
/// On PostgreSQL: one pool, and one connection more that writes; [`Durability`] is the server's business there.
///
/// ```
/// use runtrail_db::{DatabaseOptions, Durability};
///
/// let options = DatabaseOptions::new("sqlite://runtrail.db?mode=rwc").durability(Durability::Normal);
/// assert_eq!(DatabaseOptions::new("postgres://me:secret@db/app").to_string(), "postgres://me@db/app");
/// ```
#[derive(Clone)]
#[must_use]
pub struct DatabaseOptions {
    pub(crate) url: DatabaseUrl,
    pub(crate) intent: Intent,
    pub(crate) durability: Durability,
    max_connections: u32,
    acquire_timeout: Duration,
    pub(crate) busy_timeout: Duration,
    logs_statements: bool,
    abandoned: AbandonedStatements,
}

/// What a SQLite file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// As the URL says.
    Any,
    /// To write, if it exists.
    WriteExisting,
    Read,
}

/// How connections use a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "sqlite"),
    expect(dead_code, reason = "there are no files without the feature")
)]
pub(crate) enum Access {
    Write,
    /// Writes no data, but may create the files that a writer needs beside it; the last connection removes them.
    ReadBesideWriter,
    /// Opened read-only.
    Read,
    /// Opened read-only, and without the files beside it.
    ReadAlone,
}

impl DatabaseOptions {
    /// A connection to this database: `sqlite://FILE?mode=rwc` (`rwc` creates the file), `sqlite::memory:` (for
    /// tests), `postgres://USER:PASSWORD@HOST/DATABASE`.
    ///
    /// The path of a SQLite file is read literally, except for `%XX` and the `?` that begins the parameters. A
    /// PostgreSQL URL may leave out any part, as in psql: `postgres://USER@/DATABASE?host=/FOLDER`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: DatabaseUrl::read(&url.into()),
            intent: Intent::Any,
            durability: Durability::default(),
            max_connections: 8,
            acquire_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(10),
            logs_statements: false,
            abandoned: AbandonedStatements::default(),
        }
    }

    /// Opens a SQLite file to read it, as `mode=ro` in its URL does: it is never created, converted or written.
    ///
    /// In a folder that can't be written, a file without a `-wal` file is read as immutable (`immutable=1`), with a
    /// warning through `tracing`. No effect on PostgreSQL.
    pub fn read_only(mut self) -> Self {
        self.intent = Intent::Read;
        self
    }

    /// Never creates a SQLite file, whatever its URL says. No effect on PostgreSQL.
    pub fn existing_only(mut self) -> Self {
        self.intent = Intent::WriteExisting;
        self
    }

    /// What survives a power cut; [`Durability::Full`] by default. SQLite only.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The most connections that are open at a time; 8 by default, from 1 to 10,000.
    ///
    /// One more connection writes: on SQLite every statement, on PostgreSQL the store's grouped calls. With 1, the
    /// store opens exactly one connection to PostgreSQL, for roles that are limited to one, and writes each call alone.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.clamp(1, 10_000);
        self
    }

    /// How long a call waits for a free connection before it fails with a timeout; 5 s by default, at most a year.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        /// The pool adds it to the time of day.
        const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

        self.acquire_timeout = timeout.min(A_YEAR);
        self
    }

    /// How long a SQLite statement waits for another process's lock before it fails; 10 s by default, at most 24 days.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        /// SQLite counts milliseconds, and in 31 bits.
        const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

        self.busy_timeout = timeout.min(LONGEST);
        self
    }

    /// Which kind of database the URL names.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl), which never repeats the URL: there may be a password in it.
    pub fn backend(&self) -> Result<DbBackend> {
        self.url.backend()
    }

    /// Whether the URL names a SQLite database.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.backend(), Ok(DbBackend::Sqlite))
    }

    /// Whether a SQLite file is opened read-only.
    pub fn is_read_only(&self) -> bool {
        let by_url = self.url.sqlite().is_ok_and(|url| url.mode == Mode::Read);
        by_url || self.intent == Intent::Read
    }

    /// Whether a store has a connection that writes for all callers.
    #[doc(hidden)]
    pub fn has_writer(&self) -> bool {
        match &self.url {
            DatabaseUrl::Sqlite(_) => self.is_in_memory() || !self.is_read_only(),
            _ => self.max_connections > 1,
        }
    }

    /// Whether both name the same file, or the same database of a server, even by different spellings.
    pub fn is_same_database(&self, other: &Self) -> bool {
        match (&self.url, &other.url) {
            (DatabaseUrl::Sqlite(one), DatabaseUrl::Sqlite(other)) => {
                let place = |url: &SqliteUrl| url.file().and_then(sqlite_url::canonical);
                place(one).is_some_and(|file| place(other).as_ref() == Some(&file))
            }
            #[cfg(feature = "postgres")]
            (DatabaseUrl::Postgres(one), DatabaseUrl::Postgres(other)) => {
                let (one, other) = (one.place(), other.place());
                one.is_ok_and(|one| other.is_ok_and(|other| one == other))
            }
            _ => false,
        }
    }

    /// Who uses these pools tells it which statements are abandoned.
    #[doc(hidden)]
    pub fn abandoned(&self) -> &AbandonedStatements {
        &self.abandoned
    }

    /// Opens SQLite's only writing connection, or the only pool (on PostgreSQL, and for a SQLite file that is only
    /// read).
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl), [`ConnectError::NoSuchFile`](crate::ConnectError::NoSuchFile), [`ConnectError::Database`](crate::ConnectError::Database).
    pub async fn open(&self) -> Result<DatabaseConnection> {
        self.open_with(self.busy_timeout).await
    }

    async fn open_with(&self, busy_timeout: Duration) -> Result<DatabaseConnection> {
        if self.backend()? != DbBackend::Sqlite {
            return self.open_server(self.pool_options()).await;
        }
        if self.is_read_only() && !self.is_in_memory() {
            return self.open_to_read().await;
        }
        let mut options = self.pool_options();
        // Writers would only wait for each other inside SQLite, and less fairly than in the pool's queue.
        options.min_connections(1).max_connections(1);
        self.open_file(options, Access::Write, busy_timeout).await
    }

    /// The same for a queue of writers with a time limit each: on SQLite a statement fails early while another process
    /// holds the lock.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    #[doc(hidden)]
    pub async fn open_for_queue(&self) -> Result<DatabaseConnection> {
        /// Long enough that repeated tries cost next to nothing.
        const SLICE: Duration = Duration::from_millis(200);

        self.open_with(self.busy_timeout.min(SLICE)).await
    }

    /// How long each writer of the queue waits for that lock; `None` on PostgreSQL, which has no such lock.
    #[doc(hidden)]
    pub fn queue_timeout(&self) -> Option<Duration> {
        let is_sqlite = self.backend().is_ok_and(|kind| kind == DbBackend::Sqlite);
        is_sqlite.then_some(self.busy_timeout)
    }

    /// Opens connections that only read, in addition to the one from [`open`](Self::open). `None` if that one serves
    /// every statement: on PostgreSQL, for a database in memory, and for a SQLite file that is only read.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl), [`ConnectError::Database`](crate::ConnectError::Database).
    pub async fn open_readers(&self) -> Result<Option<DatabaseConnection>> {
        let is_alone = self.is_in_memory() || self.is_read_only();
        if self.backend()? != DbBackend::Sqlite || is_alone {
            return Ok(None);
        }
        let opened = self.open_file(
            self.pool_options(),
            Access::ReadBesideWriter,
            self.busy_timeout,
        );
        opened.await.map(Some)
    }

    /// Opens connections that read a SQLite file of somebody else's, and change nothing in it: not even what makes it
    /// ours. What another program has begun and was killed in is rolled back, as by whoever opens it next.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl), also for PostgreSQL; [`ConnectError::NoSuchFile`](crate::ConnectError::NoSuchFile), [`ConnectError::Database`](crate::ConnectError::Database).
    pub async fn open_as_it_is(&self) -> Result<DatabaseConnection> {
        self.url.sqlite()?;
        self.open_file(
            self.pool_options(),
            Access::ReadBesideWriter,
            self.busy_timeout,
        )
        .await
    }

    /// Whether the driver logs each statement at debug level, and at warn level each that takes longer than a second,
    /// both under the target `sqlx::query`; off by default, since formatting the text costs more than some statements.
    ///
    /// The text holds no values, except in a store
    /// [without prepared statements](crate::Pool::without_prepared_statements): there it holds all of them. The spans of
    /// this library, which need no switch, never hold any.
    pub fn log_statements(mut self, is_wanted: bool) -> Self {
        self.logs_statements = is_wanted;
        self
    }

    /// A pool of one connection for somebody who holds it while writing: on SQLite the one that
    /// [`open`](Self::open) gave, on PostgreSQL one more, which connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`](crate::ConnectError::InvalidUrl), [`ConnectError::Database`](crate::ConnectError::Database).
    pub async fn open_writer(&self, opened: &DatabaseConnection) -> Result<DatabaseConnection> {
        if self.backend()? == DbBackend::Sqlite {
            return Ok(opened.clone());
        }
        let mut options = self.pool_options();
        options.max_connections(1).connect_lazy(true);
        self.open_server(options).await
    }

    /// The pool's own options. SeaORM writes their URL into spans and messages, so it only names the kind of database;
    /// the driver's options, which have the rest, never appear there.
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
            // The driver's own options decide about the log; see with_statement_log.
            .sqlx_logging(false)
            .record_stmt_in_spans(false);
        #[cfg(feature = "postgres")]
        self.abandoned.bound_releases(&mut options);
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
        Err(self.without_feature())
    }

    #[cfg(not(feature = "sqlite"))]
    async fn open_file(
        &self,
        _options: PoolOptions,
        _access: Access,
        _busy_timeout: Duration,
    ) -> Result<DatabaseConnection> {
        Err(self.without_feature())
    }

    #[cfg(not(feature = "sqlite"))]
    async fn open_to_read(&self) -> Result<DatabaseConnection> {
        Err(self.without_feature())
    }

    #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
    fn without_feature(&self) -> ConnectError {
        self.backend().err().unwrap_or(ConnectError::InvalidUrl {
            reason: crate::database_url::MISSING_FEATURE,
        })
    }

    /// The SQLite file; `None` for a database in memory, and for PostgreSQL.
    pub fn sqlite_file(&self) -> Option<&std::path::Path> {
        self.url.sqlite().ok()?.file()
    }

    /// Whether this is a SQLite database in memory, of which nothing is left when the process ends.
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

/// Where the database is: never the password, nor anything that may be one in a mistyped URL.
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
            .finish()
    }
}
