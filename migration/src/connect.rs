use std::fmt;
use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions as PoolOptions, Database, DatabaseConnection, DbBackend, DbErr};
use url::Url;

use crate::abandoned::Abandoned;
use crate::{DriverErrorKind, Error, Result};

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
/// On SQLite: write-ahead log, foreign keys on, one connection that writes and a few that only read; a file that
/// is created is made so that it can shrink again (`auto_vacuum=INCREMENTAL`).
/// On PostgreSQL: one pool, and one connection more that writes; [`Durability`] is the server's business there.
///
/// ```
/// use runtrail_migration::{ConnectOptions, Durability};
///
/// let options = ConnectOptions::new("sqlite://runtrail.db?mode=rwc").durability(Durability::Normal);
/// assert_eq!(ConnectOptions::new("postgres://me:secret@db/app").to_string(), "postgres://me@db/app");
/// ```
#[derive(Clone)]
pub struct ConnectOptions {
    url: String,
    durability: Durability,
    max_connections: u32,
    acquire_timeout: Duration,
    busy_timeout: Duration,
    abandoned: Abandoned,
}

impl ConnectOptions {
    /// A connection to this database: `sqlite://FILE?mode=rwc` (`rwc` creates the file), `sqlite::memory:` (for
    /// tests), `postgres://USER:PASSWORD@HOST/DATABASE`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            durability: Durability::default(),
            max_connections: 8,
            acquire_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(10),
            abandoned: Abandoned::default(),
        }
    }

    /// What survives a power cut; [`Durability::Full`] by default. SQLite only.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The most connections that are open at a time; 8 by default, from 1 to 10,000.
    ///
    /// One more writes: on SQLite everything, on PostgreSQL what a store writes in groups.
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
    /// [`Error::InvalidUrl`], which never repeats the URL: there may be a password in it.
    pub fn backend(&self) -> Result<DbBackend> {
        let reason = match Url::parse(&self.url).as_ref().map(Url::scheme) {
            Ok("sqlite") if cfg!(feature = "sqlite") => return Ok(DbBackend::Sqlite),
            Ok("postgres" | "postgresql") if cfg!(feature = "postgres") => {
                return Ok(DbBackend::Postgres);
            }
            Ok("sqlite" | "postgres" | "postgresql") => {
                "needs a cargo feature that this build leaves out: `sqlite` or `postgres`"
            }
            _ => "has to begin with sqlite: or postgres:",
        };
        Err(Error::InvalidUrl { reason })
    }

    /// Who uses these pools tells it which statements are abandoned.
    #[doc(hidden)]
    pub fn abandoned(&self) -> &Abandoned {
        &self.abandoned
    }

    /// Opens the connection that writes (on SQLite, of which there is one) or the one pool (on PostgreSQL).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::Database`].
    pub async fn open(&self) -> Result<DatabaseConnection> {
        let mut options = self.pool_options();
        if self.backend()? == DbBackend::Sqlite {
            // Writers would only wait for each other inside SQLite, and less fairly than in the pool's queue.
            options.min_connections(1).max_connections(1);
            self.set_pragmas(&mut options, Access::ReadWrite);
        }
        self.connect(options).await
    }

    /// The same for a queue of writers, each of which waits for a lock by its own clock: on SQLite a statement fails
    /// early where another process holds the lock.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::Database`].
    #[doc(hidden)]
    pub async fn open_for_queue(&self) -> Result<DatabaseConnection> {
        /// Rarely enough to cost nothing.
        const SLICE: Duration = Duration::from_millis(200);

        let slice = self.busy_timeout.min(SLICE);
        let mut options = self.pool_options();
        if self.backend()? == DbBackend::Sqlite {
            options.min_connections(1).max_connections(1);
            let in_slices = self.clone().busy_timeout(slice);
            in_slices.set_pragmas(&mut options, Access::ReadWrite);
        }
        self.connect(options).await
    }

    /// How long each of them waits for that lock; none where there is no such lock.
    #[doc(hidden)]
    pub fn queue_timeout(&self) -> Option<Duration> {
        let is_sqlite = self.backend().is_ok_and(|kind| kind == DbBackend::Sqlite);
        is_sqlite.then_some(self.busy_timeout)
    }

    /// Opens connections that only read, beside one that [`open`](Self::open) gave; none on PostgreSQL and for a
    /// database in memory, where that one does everything.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::Database`].
    pub async fn open_readers(&self) -> Result<Option<DatabaseConnection>> {
        if self.backend()? != DbBackend::Sqlite || self.is_in_memory() {
            return Ok(None);
        }
        let mut options = self.pool_options();
        self.set_pragmas(&mut options, Access::ReadOnly);
        self.connect(options).await.map(Some)
    }

    /// Opens connections that read a SQLite file of somebody else's, and change nothing in it: not even what makes it
    /// ours. What another program has begun and was killed in is rolled back, as by whoever opens it next.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], also for PostgreSQL; [`Error::Database`].
    pub async fn open_as_it_is(&self) -> Result<DatabaseConnection> {
        if self.backend()? != DbBackend::Sqlite {
            return Err(Error::InvalidUrl {
                reason: "has to begin with sqlite:",
            });
        }
        let mut options = self.pool_options();
        self.set_pragmas(&mut options, Access::AsItIs);
        self.connect(options).await
    }

    /// A pool of one connection for somebody who holds it while writing: on SQLite the one that
    /// [`open`](Self::open) gave, on PostgreSQL one more, which connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::Database`].
    pub async fn open_writer(&self, opened: &DatabaseConnection) -> Result<DatabaseConnection> {
        if self.backend()? == DbBackend::Sqlite {
            return Ok(opened.clone());
        }
        let mut options = self.pool_options();
        options.max_connections(1).connect_lazy(true);
        self.connect(options).await
    }

    fn pool_options(&self) -> PoolOptions {
        let mut options = PoolOptions::new(&self.url);
        options
            .max_connections(self.max_connections)
            .acquire_timeout(self.acquire_timeout)
            // A ping before each statement would double the round trips.
            .test_before_acquire_if_idle_for(Duration::from_secs(30))
            // Formatting every statement for a log nobody reads costs more than some statements.
            .sqlx_logging(false)
            .record_stmt_in_spans(false);
        #[cfg(feature = "postgres")]
        self.abandoned.bound_releases(&mut options);
        options
    }

    #[cfg(feature = "sqlite")]
    fn set_pragmas(&self, options: &mut PoolOptions, access: Access) {
        use sea_orm::sqlx::sqlite::{SqliteAutoVacuum, SqliteJournalMode, SqliteSynchronous};

        /// What the WAL file may keep on disk after a checkpoint: 64 MiB.
        const JOURNAL_SIZE_LIMIT: &str = "67108864";

        let synchronous = match self.durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Normal => SqliteSynchronous::Normal,
        };
        let (busy_timeout, in_memory) = (self.busy_timeout, self.is_in_memory());
        options
            // An open file costs nothing, and a database in memory is gone with its last connection.
            .idle_timeout(None)
            .max_lifetime(None)
            .map_sqlx_sqlite_opts(move |sqlite| {
                let mut sqlite = sqlite
                    .busy_timeout(busy_timeout)
                    .foreign_keys(true)
                    .synchronous(synchronous)
                    .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT);
                if !in_memory && access != Access::AsItIs {
                    sqlite = sqlite.journal_mode(SqliteJournalMode::Wal);
                }
                match access {
                    // Later it has no effect, but takes the write lock all the same.
                    Access::ReadWrite if is_new(sqlite.get_filename()) => {
                        sqlite.auto_vacuum(SqliteAutoVacuum::Incremental)
                    }
                    Access::ReadWrite => sqlite,
                    Access::ReadOnly => sqlite.pragma("query_only", "ON"),
                    Access::AsItIs => sqlite.create_if_missing(false).pragma("query_only", "ON"),
                }
            });
    }

    #[cfg(not(feature = "sqlite"))]
    fn set_pragmas(&self, _options: &mut PoolOptions, _access: Access) {}

    /// Switching a new file to the write-ahead log is the one lock that SQLite's busy timeout doesn't wait for.
    async fn connect(&self, options: PoolOptions) -> Result<DatabaseConnection> {
        let begun = Instant::now();
        loop {
            let err: DbErr = match Database::connect(options.clone()).await {
                Ok(connection) => return Ok(connection),
                Err(err) => err,
            };
            if DriverErrorKind::of(&err) != DriverErrorKind::Busy
                || begun.elapsed() >= self.busy_timeout
            {
                return Err(err.into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn is_in_memory(&self) -> bool {
        self.url.contains(":memory:") || self.url.contains("mode=memory")
    }
}

/// Whether a SQLite file is yet to be made.
#[cfg(feature = "sqlite")]
fn is_new(file: &std::path::Path) -> bool {
    std::fs::metadata(file).map_or(true, |file| file.len() == 0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadWrite,
    ReadOnly,
    /// Not even what makes it ours.
    AsItIs,
}

impl<T: Into<String>> From<T> for ConnectOptions {
    fn from(url: T) -> Self {
        Self::new(url)
    }
}

/// Where the database is: never the password, nor anything that may be one in a mistyped URL.
impl fmt::Display for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Url::parse(&self.url);
        match (self.backend(), &url) {
            (Ok(DbBackend::Sqlite), _) => {
                f.write_str(self.url.split('?').next().unwrap_or_default())
            }
            // A password that holds a / or # ends the host early, and what follows has the @.
            (Ok(_), Ok(url)) if url.has_host() && !url.path().contains('@') => {
                write!(f, "{}://", url.scheme())?;
                if !url.username().is_empty() {
                    write!(f, "{}@", url.username())?;
                }
                f.write_str(url.host_str().unwrap_or_default())?;
                if let Some(port) = url.port() {
                    write!(f, ":{port}")?;
                }
                f.write_str(url.path())
            }
            _ => f.write_str("(not a database URL)"),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("url", &self.to_string())
            .field("durability", &self.durability)
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("busy_timeout", &self.busy_timeout)
            .finish()
    }
}
