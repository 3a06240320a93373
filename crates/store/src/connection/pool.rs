use async_trait::async_trait;
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
}

impl Pool {
    pub(crate) fn new(db: DatabaseConnection) -> Self {
        Self {
            db,
            has_prepared_statements: true,
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

    /// Where one connection was lost, others may have been, and each would cost another try: a server that restarts
    /// ends them all.
    #[cfg(feature = "postgres")]
    pub(crate) fn test_idle_connections(&self) {
        if let Some(pool) = backend::postgres_pool(&self.db) {
            let idle: Vec<_> = (0..pool.num_idle())
                .map_while(|_| pool.try_acquire())
                .collect();
            // On the way back each is tested, and closed if it doesn't answer.
            drop(idle);
        }
    }

    /// SQLite's can't be lost.
    #[cfg(not(feature = "postgres"))]
    pub(crate) fn test_idle_connections(&self) {}

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
            return simple.execute(statement).await;
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
        #[cfg(feature = "postgres")]
        if let Some(simple) = self.simple_protocol() {
            return simple.query_all(statement).await;
        }
        self.db.query_all_raw(statement).await
    }
}
