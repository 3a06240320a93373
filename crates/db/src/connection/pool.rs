use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runtrail_audit::Error;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    Statement,
};
use tokio::time::{Instant, timeout_at};

use super::connection_cache::{CachePause, ConnectionCache};
use super::{Cost, Executor, OnlyWriter, Plan, rows_of_driver};
#[cfg(feature = "postgres")]
use super::{pooled_connection, simple_protocol};
#[cfg(feature = "sqlite")]
use crate::direct::Readers;
use crate::{AbandonedStatements, Row, backend, error};

/// Returns the time at which `close` stops waiting for pending calls: after the call timeout, or
/// after 15 s if that is shorter.
pub fn closing_deadline(call_timeout: Option<Duration>) -> Instant {
    /// Longer than a call waits for another process's lock by default.
    const MAX_WAIT: Duration = Duration::from_secs(15);

    Instant::now() + call_timeout.unwrap_or(MAX_WAIT).min(MAX_WAIT)
}

/// A database: one that Runtrail has opened, or a host's `DatabaseConnection`.
#[derive(Clone, Debug)]
pub struct Pool {
    db: DatabaseConnection,
    has_prepared_statements: bool,
    kind: Kind,
}

/// How a statement gets a connection.
#[derive(Clone, Debug)]
enum Kind {
    /// A host's pool: the driver provides the connection.
    Host,
    /// Runtrail's own pool: connections are cached between statements.
    Own {
        cache: Arc<ConnectionCache>,
        abandoned: AbandonedStatements,
    },
    /// Runtrail's own pool with a single connection: the writer, which owns it, executes the
    /// statement.
    Single(Arc<dyn OnlyWriter>),
    /// A SQLite file that Runtrail writes without the driver. The driver's pool serves only callers
    /// that need a `ConnectionTrait`.
    #[cfg(feature = "sqlite")]
    FileWriter(Arc<dyn OnlyWriter>),
    /// A SQLite file that Runtrail reads without the driver. The driver's pool serves only callers
    /// that need a `ConnectionTrait`.
    #[cfg(feature = "sqlite")]
    FileReaders(Arc<Readers>),
}

impl Pool {
    /// Wraps a host's connection.
    pub fn new(db: DatabaseConnection) -> Self {
        Self {
            db,
            has_prepared_statements: true,
            kind: Kind::Host,
        }
    }

    /// Wraps a pool that Runtrail has opened with these [`AbandonedStatements`].
    pub fn own(db: DatabaseConnection, abandoned: AbandonedStatements) -> Self {
        let kind = match ConnectionCache::of(&db).map(Arc::new) {
            Some(cache) => Kind::Own { cache, abandoned },
            None => Kind::Host,
        };
        Self {
            kind,
            ..Self::new(db)
        }
    }

    /// Wraps a pool that Runtrail has opened and whose only connection this writer owns.
    pub fn single(db: DatabaseConnection, writer: Arc<dyn OnlyWriter>) -> Self {
        Self {
            kind: Kind::Single(writer),
            ..Self::new(db)
        }
    }

    /// Wraps a pool for a file to which this writer has a connection of its own.
    #[cfg(feature = "sqlite")]
    pub fn file_writer(db: DatabaseConnection, writer: Arc<dyn OnlyWriter>) -> Self {
        Self {
            kind: Kind::FileWriter(writer),
            ..Self::new(db)
        }
    }

    /// Wraps a pool for a file that these connections read.
    #[cfg(feature = "sqlite")]
    pub(crate) fn file_readers(db: DatabaseConnection, readers: Readers) -> Self {
        Self {
            kind: Kind::FileReaders(Arc::new(readers)),
            ..Self::new(db)
        }
    }

    /// Sends each PostgreSQL statement in one message, without preparing it.
    pub fn without_prepared_statements(self) -> Self {
        Self {
            has_prepared_statements: false,
            ..self
        }
    }

    /// Returns the [lock timeout](OnlyWriter::lock_timeout) of the writer that executes the
    /// statements, if there is one.
    pub fn lock_timeout(&self) -> Option<Duration> {
        self.only_writer()?.lock_timeout()
    }

    fn only_writer(&self) -> Option<&dyn OnlyWriter> {
        match &self.kind {
            Kind::Single(writer) => Some(&**writer),
            #[cfg(feature = "sqlite")]
            Kind::FileWriter(writer) => Some(&**writer),
            _ => None,
        }
    }

    /// Returns whether PostgreSQL statements are prepared.
    pub fn has_prepared_statements(&self) -> bool {
        self.has_prepared_statements
    }

    /// Returns the connection cache, if there is one.
    fn cache(&self) -> Option<&ConnectionCache> {
        match &self.kind {
            Kind::Own { cache, .. } => Some(cache),
            _ => None,
        }
    }

    /// Closes each connection once its pending statements have finished, or at the deadline.
    ///
    /// An [`OnlyWriter`] has to be closed first.
    ///
    /// # Errors
    ///
    /// [`Timeout`](runtrail_audit::Error::Timeout), and the database's own failures.
    pub async fn close(&self, deadline: Instant) -> runtrail_audit::Result<()> {
        if let Some(cache) = self.cache() {
            cache.close();
        }
        let closed = timeout_at(deadline, self.db.close_by_ref()).await;
        #[cfg(feature = "sqlite")]
        if let Kind::FileReaders(readers) = &self.kind {
            return error::in_time(readers.close(deadline).await.and(closed));
        }
        error::in_time(closed)
    }

    /// Returns a number that changes with each commit to a SQLite file that Runtrail reads without
    /// the driver, at the cost of some microseconds; `None` for any other database.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn data_version(&self) -> runtrail_audit::Result<Option<i64>> {
        #[cfg(feature = "sqlite")]
        if let Kind::FileReaders(readers) = &self.kind {
            let version = readers.data_version().await;
            return version.map(Some).map_err(error::database);
        }
        Ok(None)
    }

    /// Returns the driver's pool, to begin a transaction on it. Suspends caching while the returned
    /// value exists.
    pub fn uncached(&self) -> Uncached<'_> {
        Uncached {
            db: &self.db,
            _pause: self.cache().map(ConnectionCache::pause),
        }
    }

    /// Switches a SQLite file that Runtrail has opened to the write-ahead log; a host's file keeps
    /// its mode.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn use_write_ahead_log(&self) -> Result<(), DbErr> {
        if let Some(writer) = self.only_writer() {
            writer.rows(backend::write_ahead_log()).await?;
        }
        Ok(())
    }

    /// Closes the idle connections that a failure on another connection has made useless. A
    /// restarting server ends all of them, and each would cost another try. A connection to a
    /// standby stays read-only for as long as it exists.
    #[cfg(feature = "postgres")]
    pub(crate) fn check_idle_connections(&self, failure: &Error) {
        use sea_orm::sqlx::Connection;
        use tokio::time::timeout;

        const PING_TIMEOUT: Duration = Duration::from_secs(1);

        let Some(pool) = backend::postgres_pool(&self.db) else {
            return;
        };
        let is_standby = match failure {
            Error::ReadOnly { .. } => true,
            Error::Backend {
                transient: true, ..
            } => false,
            _ => return,
        };
        if let Some(cache) = self.cache() {
            cache.discard();
        }
        for mut connection in (0..pool.num_idle()).map_while(|_| pool.try_acquire()) {
            tokio::spawn(async move {
                let is_usable = !is_standby
                    && matches!(timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(())));
                if !is_usable {
                    // Sends no termination message, since the server may be gone.
                    drop(connection.detach());
                }
            });
        }
    }

    /// Does nothing: connections to SQLite can't be lost.
    #[cfg(not(feature = "postgres"))]
    pub(crate) fn check_idle_connections(&self, _failure: &Error) {}

    /// Returns the PostgreSQL pool if no statement may be prepared on it.
    #[cfg(feature = "postgres")]
    fn unprepared_pool(&self) -> Option<&sea_orm::sqlx::PgPool> {
        backend::postgres_pool(&self.db).filter(|_| !self.has_prepared_statements)
    }
}

/// The driver's pool without the connection cache; see [`Pool::uncached`].
pub struct Uncached<'a> {
    db: &'a DatabaseConnection,
    _pause: Option<CachePause<'a>>,
}

impl Deref for Uncached<'_> {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        self.db
    }
}

impl fmt::Debug for Uncached<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uncached").finish_non_exhaustive()
    }
}

#[async_trait]
impl Executor for Pool {
    fn backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    fn pool(&self) -> Option<&Pool> {
        Some(self)
    }

    async fn rows(&self, query: Statement, cost: Cost, plan: Plan) -> Result<Vec<Row>, DbErr> {
        if let Some(writer) = self.only_writer() {
            return writer.rows(query).await;
        }
        #[cfg(feature = "sqlite")]
        if let Kind::FileReaders(readers) = &self.kind {
            return readers.fetch(query, cost, plan).await;
        }
        let _ = (cost, plan);
        self.query_all_raw(query).await.map(rows_of_driver)
    }

    async fn changes(&self, statement: Statement) -> Result<u64, DbErr> {
        if let Some(writer) = self.only_writer() {
            return writer.changes(statement).await;
        }
        let result = self.execute_raw(statement).await?;
        Ok(result.rows_affected())
    }
}

#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        if let Kind::Own { cache, abandoned } = &self.kind {
            let checkout = cache
                .checkout_for_write(self.has_prepared_statements)
                .await?;
            let result = abandoned
                .watch(checkout.connection.execute_raw(statement))
                .await;
            cache.check_in(checkout, result.as_ref().err());
            return result;
        }
        #[cfg(feature = "postgres")]
        if let Some(pool) = self.unprepared_pool() {
            let result = simple_protocol::query(&statement).execute(pool).await;
            return result
                .map(Into::into)
                .map_err(|err| DbErr::Exec(pooled_connection::runtime_error(err)));
        }
        self.db.execute_raw(statement).await
    }

    #[expect(clippy::disallowed_methods, reason = "forwarding, not calling")]
    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.db.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match &self.kind {
            // The writer keeps the only connection for a while.
            Kind::Single(writer) => {
                let rows = writer.rows(statement).await?.into_iter();
                let rows: Option<_> = rows.map(Row::into_driver_row).collect();
                return rows.ok_or_else(|| {
                    DbErr::Query(RuntimeErr::Internal(
                        "the row isn't of the driver".to_owned(),
                    ))
                });
            }
            Kind::Own { cache, abandoned } => {
                let checkout = cache
                    .checkout_for_read(self.has_prepared_statements)
                    .await?;
                let rows = abandoned
                    .watch(checkout.connection.query_all_raw(statement))
                    .await;
                cache.check_in(checkout, rows.as_ref().err());
                return rows;
            }
            _ => {}
        }
        #[cfg(feature = "postgres")]
        if let Some(pool) = self.unprepared_pool() {
            let rows = simple_protocol::query(&statement).fetch_all(pool).await;
            return rows
                .map(pooled_connection::query_results)
                .map_err(|err| DbErr::Query(pooled_connection::runtime_error(err)));
        }
        self.db.query_all_raw(statement).await
    }
}
