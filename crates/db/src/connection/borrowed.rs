use std::fmt;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::{Cost, Executor, Plan, Pool, rows_of_driver};
use crate::Row;

/// A host's open transaction or connection. A store only executes statements on it, and never
/// commits or rolls back.
pub struct Borrowed<'a, C>(&'a C);

impl<'a, C> Borrowed<'a, C> {
    /// Borrows a connection.
    pub fn new(connection: &'a C) -> Self {
        Self(connection)
    }
}

#[async_trait]
impl<C: ConnectionTrait> Executor for Borrowed<'_, C> {
    fn backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    fn pool(&self) -> Option<&Pool> {
        None
    }

    async fn rows(&self, query: Statement, _cost: Cost, _plan: Plan) -> Result<Vec<Row>, DbErr> {
        self.query_all_raw(query).await.map(rows_of_driver)
    }

    async fn changes(&self, statement: Statement) -> Result<u64, DbErr> {
        let result = self.execute_raw(statement).await?;
        Ok(result.rows_affected())
    }
}

#[async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Borrowed<'_, C> {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(statement).await
    }

    #[expect(clippy::disallowed_methods, reason = "forwarding, not calling")]
    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    #[expect(clippy::disallowed_methods, reason = "forwarding, not calling")]
    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(statement).await
    }
}

impl<C> fmt::Debug for Borrowed<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Borrowed").finish_non_exhaustive()
    }
}

impl<C> Clone for Borrowed<'_, C> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}
