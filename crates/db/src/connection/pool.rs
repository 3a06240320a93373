use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runtrail_audit::Error;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};
use tokio::time::{Instant, timeout_at};

use super::connection_cache::{CachePause, ConnectionCache};
use super::{Connection, OnlyWriter};
#[cfg(feature = "postgres")]
use super::{pooled_connection, simple_protocol};
use crate::{AbandonedStatements, backend, error};

/// When `close` gives up pending calls: after the timeout of a call, if there is one.
pub fn closing_deadline(call_timeout: Option<Duration>) -> Instant {
    /// Longer than a call waits for another process's lock.
    const LONGEST: Duration = Duration::from_secs(15);

    Instant::now() + call_timeout.unwrap_or(LONGEST).min(LONGEST)
}

/// A database: one that was opened here, or a host's `DatabaseConnection`.
#[derive(Clone, Debug)]
pub struct Pool {
    db: DatabaseConnection,
    has_prepared_statements: bool,
    kind: Kind,
}

/// How a statement gets a connection.
#[derive(Clone, Debug)]
enum Kind {
    /// A host's: the driver's pool gives it one.
    Host,
    /// One of our own: idle connections are cached, for at most as long as nobody else needs them.
    Own {
        cache: Arc<ConnectionCache>,
        abandoned: AbandonedStatements,
    },
    /// One of our own with a single connection, which the writer holds: the statement goes through it.
    Single(Arc<dyn OnlyWriter>),
}

impl Pool {
    /// Over a host's connection.
    pub fn new(db: DatabaseConnection) -> Self {
        Self {
            db,
            has_prepared_statements: true,
            kind: Kind::Host,
        }
    }

    /// Over one of our own, whose pool asks what was abandoned.
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

    /// Over one of our own, whose only connection this writer holds.
    pub fn single(db: DatabaseConnection, writer: Arc<dyn OnlyWriter>) -> Self {
        Self {
            kind: Kind::Single(writer),
            ..Self::new(db)
        }
    }

    /// The same database, whose PostgreSQL statements are sent in one message each.
    pub fn without_prepared_statements(self) -> Self {
        Self {
            has_prepared_statements: false,
            ..self
        }
    }

    /// How long a call waits while another process locks the whole database, where statements fail early.
    pub fn lock_timeout(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Single(writer) => writer.lock_timeout(),
            Kind::Host | Kind::Own { .. } => None,
        }
    }

    /// Whether PostgreSQL statements are prepared.
    pub fn has_prepared_statements(&self) -> bool {
        self.has_prepared_statements
    }

    /// The connections that are cached here, rather than in the driver's pool.
    fn cache(&self) -> Option<&ConnectionCache> {
        match &self.kind {
            Kind::Own { cache, .. } => Some(cache),
            Kind::Host | Kind::Single(_) => None,
        }
    }

    /// Closes each connection once its pending statements have finished, or at the deadline.
    ///
    /// An [`OnlyWriter`] has to be closed before.
    ///
    /// # Errors
    ///
    /// [`Timeout`](runtrail_audit::Error::Timeout), and the database's own failures.
    pub async fn close(&self, deadline: Instant) -> runtrail_audit::Result<()> {
        if let Some(cache) = self.cache() {
            cache.close();
        }
        let closed = timeout_at(deadline, self.db.close_by_ref()).await;
        error::in_time(closed)
    }

    /// The driver's pool, to begin a transaction on: while the answer lives, no connection is cached elsewhere.
    pub fn uncached(&self) -> Uncached<'_> {
        Uncached {
            db: &self.db,
            _pause: self.cache().map(ConnectionCache::pause),
        }
    }

    /// Switches a SQLite file with a writer of our own to the write-ahead log; doesn't change the mode of a host's.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn use_write_ahead_log(&self) -> Result<(), DbErr> {
        if let Kind::Single(writer) = &self.kind {
            writer.execute(backend::write_ahead_log()).await?;
        }
        Ok(())
    }

    /// Lets go of idle connections that are of no more use than the one that has just failed: a server that restarts
    /// ends them all, and each would cost another try; those to a standby would stay standbys for as long as they live.
    #[cfg(feature = "postgres")]
    pub(crate) fn check_idle_connections(&self, failure: &Error) {
        use sea_orm::sqlx::Connection;
        use tokio::time::timeout;

        const PATIENCE: Duration = Duration::from_secs(1);

        let Some(pool) = backend::postgres_pool(&self.db) else {
            return;
        };
        let leads_to_standby = match failure {
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
                let is_fit = !leads_to_standby
                    && matches!(timeout(PATIENCE, connection.ping()).await, Ok(Ok(())));
                if !is_fit {
                    // Without a farewell, which nobody may be there to take.
                    drop(connection.detach());
                }
            });
        }
    }

    /// SQLite's can't be lost.
    #[cfg(not(feature = "postgres"))]
    pub(crate) fn check_idle_connections(&self, _failure: &Error) {}

    /// The PostgreSQL pool, if nothing may be prepared on it.
    #[cfg(feature = "postgres")]
    fn unprepared(&self) -> Option<&sea_orm::sqlx::PgPool> {
        backend::postgres_pool(&self.db).filter(|_| !self.has_prepared_statements)
    }
}

/// The driver's pool with all its connections; see [`Pool::uncached`].
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

impl Connection for Pool {
    fn pool(&self) -> Option<&Pool> {
        Some(self)
    }
}

#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match &self.kind {
            Kind::Single(writer) => return writer.execute(statement).await,
            Kind::Own { cache, abandoned } => {
                let checkout = cache
                    .checkout_for_write(self.has_prepared_statements)
                    .await?;
                let result = abandoned
                    .watch(checkout.connection.execute_raw(statement))
                    .await;
                cache.check_in(checkout, result.as_ref().err());
                return result;
            }
            Kind::Host => {}
        }
        #[cfg(feature = "postgres")]
        if let Some(pool) = self.unprepared() {
            let result = simple_protocol::query(&statement).execute(pool).await;
            return result
                .map(Into::into)
                .map_err(|err| DbErr::Exec(pooled_connection::runtime(err)));
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
            Kind::Single(writer) => return writer.query_all(statement).await,
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
            Kind::Host => {}
        }
        #[cfg(feature = "postgres")]
        if let Some(pool) = self.unprepared() {
            let rows = simple_protocol::query(&statement).fetch_all(pool).await;
            return rows
                .map(pooled_connection::results)
                .map_err(|err| DbErr::Query(pooled_connection::runtime(err)));
        }
        self.db.query_all_raw(statement).await
    }
}
