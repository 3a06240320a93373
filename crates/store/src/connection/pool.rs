use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runtrail_audit::Error;
use runtrail_migration::{Abandoned, Migrator};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};

use tokio::time::{Instant, timeout_at};

use super::Connection;
use super::kept::Kept;
#[cfg(feature = "postgres")]
use super::{held, simple_protocol};
use crate::writer::Writer;
use crate::{backend, error};

/// When `close` gives up pending calls: after the timeout of a call, if there is one.
pub(crate) fn closing_deadline(call_timeout: Option<Duration>) -> Instant {
    /// Longer than a call waits for another process's lock.
    const LONGEST: Duration = Duration::from_secs(15);

    Instant::now() + call_timeout.unwrap_or(LONGEST).min(LONGEST)
}

/// A `DatabaseConnection`: the store's own or a host's.
#[derive(Clone, Debug)]
pub struct Pool {
    db: DatabaseConnection,
    has_prepared_statements: bool,
    abandoned: Abandoned,
    writer: Option<Writer>,
    kept: Option<Arc<Kept>>,
}

impl Pool {
    /// Over a host's connection.
    pub(crate) fn new(db: DatabaseConnection) -> Self {
        Self {
            db,
            has_prepared_statements: true,
            abandoned: Abandoned::default(),
            writer: None,
            kept: None,
        }
    }

    /// Over one of the store's own, whose pool asks what was abandoned.
    pub(crate) fn own(db: DatabaseConnection, abandoned: Abandoned) -> Self {
        Self {
            abandoned,
            kept: Kept::of(&db).map(Arc::new),
            ..Self::new(db)
        }
    }

    /// The same with a task that groups what is written.
    pub(crate) fn with_writer(self, writer: Writer) -> Self {
        Self {
            writer: Some(writer),
            ..self
        }
    }

    pub(crate) fn without_prepared_statements(self) -> Self {
        Self {
            has_prepared_statements: false,
            ..self
        }
    }

    pub(crate) fn writer(&self) -> Option<&Writer> {
        self.writer.as_ref()
    }

    /// How long a call waits while another process locks the whole database, where statements fail early.
    pub(crate) fn lock_timeout(&self) -> Option<Duration> {
        self.writer.as_ref().and_then(Writer::lock_timeout)
    }

    pub(crate) fn has_prepared_statements(&self) -> bool {
        self.has_prepared_statements
    }

    /// The writer whose connection is the only one of this pool, so that every statement goes through it.
    fn only_connection(&self) -> Option<&Writer> {
        self.writer
            .as_ref()
            .filter(|_| !backend::has_schemas(&self.db))
    }

    /// Closes each connection once its pending statements have finished, or at the deadline.
    pub(crate) async fn close(&self, deadline: Instant) -> runtrail_audit::Result<()> {
        let writer = match &self.writer {
            Some(writer) => writer.close(deadline).await,
            None => Ok(()),
        };
        if let Some(kept) = &self.kept {
            kept.close();
        }
        let closed = timeout_at(deadline, self.db.close_by_ref()).await;
        writer.and(error::in_time(closed))
    }

    /// Migrates, for which the pool itself has to have its connections.
    pub(crate) async fn migrate(&self, migrator: &Migrator) -> runtrail_migration::Result<()> {
        let _given_way = self.kept.as_deref().map(Kept::give_way);
        migrator.up(&self.db, None).await.map(drop)
    }

    /// Switches a SQLite file of the store's own pool to the write-ahead log; doesn't change the mode of a host's.
    pub(crate) async fn use_write_ahead_log(&self) -> Result<(), DbErr> {
        if let Some(writer) = self.only_connection() {
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
        if let Some(kept) = &self.kept {
            kept.discard();
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
        if let Some(writer) = self.only_connection() {
            return writer.execute(statement).await;
        }
        if let Some(kept) = &self.kept {
            let lent = kept.take_to_write(self.has_prepared_statements).await?;
            let result = self.abandoned.watch(lent.held.execute_raw(statement)).await;
            kept.take_back(lent, result.as_ref().err());
            return result;
        }
        #[cfg(feature = "postgres")]
        if let Some(pool) = self.unprepared() {
            let result = simple_protocol::query(&statement).execute(pool).await;
            return result
                .map(Into::into)
                .map_err(|err| DbErr::Exec(held::runtime(err)));
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
        if let Some(writer) = self.only_connection() {
            return writer.query_all(statement).await;
        }
        if let Some(kept) = &self.kept {
            let lent = kept.take(self.has_prepared_statements).await?;
            let rows = self
                .abandoned
                .watch(lent.held.query_all_raw(statement))
                .await;
            kept.take_back(lent, rows.as_ref().err());
            return rows;
        }
        #[cfg(feature = "postgres")]
        if let Some(pool) = self.unprepared() {
            let rows = simple_protocol::query(&statement).fetch_all(pool).await;
            return rows
                .map(held::results)
                .map_err(|err| DbErr::Query(held::runtime(err)));
        }
        self.db.query_all_raw(statement).await
    }
}
