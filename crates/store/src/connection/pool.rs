use async_trait::async_trait;
use runtrail_audit::Error;
use runtrail_migration::Abandoned;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};

use super::Connection;
#[cfg(feature = "postgres")]
use crate::backend;

/// A `DatabaseConnection`: the store's own or a host's.
#[derive(Clone, Debug)]
pub struct Pool {
    db: DatabaseConnection,
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "SQLite always prepares")
    )]
    has_prepared_statements: bool,
    abandoned: Abandoned,
}

impl Pool {
    /// Over a host's connection.
    pub(crate) fn new(db: DatabaseConnection) -> Self {
        Self::watched(db, Abandoned::default())
    }

    /// Over one whose pool asks what was abandoned.
    pub(crate) fn watched(db: DatabaseConnection, abandoned: Abandoned) -> Self {
        Self {
            db,
            has_prepared_statements: true,
            abandoned,
        }
    }

    pub(crate) fn without_prepared_statements(self) -> Self {
        Self {
            has_prepared_statements: false,
            ..self
        }
    }

    pub(crate) fn inner(&self) -> &DatabaseConnection {
        &self.db
    }

    /// Lets go of idle connections that are of no more use than the one that has just failed: a server that restarts
    /// ends them all, and each would cost another try; those to a standby would stay standbys for as long as they live.
    #[cfg(feature = "postgres")]
    pub(crate) fn check_idle_connections(&self, failure: &Error) {
        use sea_orm::sqlx::Connection;
        use std::time::Duration;
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

    #[cfg(feature = "postgres")]
    fn simple_protocol(&self) -> Option<super::simple_protocol::SimpleProtocol<'_>> {
        if self.has_prepared_statements {
            return None;
        }
        super::simple_protocol::SimpleProtocol::on(&self.db)
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
        #[cfg(feature = "postgres")]
        if let Some(simple) = self.simple_protocol() {
            return self.abandoned.watch(simple.execute(statement)).await;
        }
        self.abandoned.watch(self.db.execute_raw(statement)).await
    }

    #[expect(clippy::disallowed_methods, reason = "forwarding, not calling")]
    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.db.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        #[cfg(feature = "postgres")]
        if let Some(simple) = self.simple_protocol() {
            return self.abandoned.watch(simple.query_all(statement)).await;
        }
        self.abandoned.watch(self.db.query_all_raw(statement)).await
    }
}
