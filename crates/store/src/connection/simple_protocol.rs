//! Statements without preparing them, for poolers that can't keep prepared statements.
//!
//! The driver prepares in one message and executes in the next. A pooler in transaction mode may send the two to
//! different servers, and only newer ones (PgBouncer from 1.21 on) notice. PostgreSQL's simple protocol does it
//! in a single message, with the values written into the text: by the query builder, which quotes them.

use std::sync::Arc;

use sea_orm::sqlx::{self, AssertSqlSafe, Executor, PgPool};
use sea_orm::{
    DatabaseConnection, DbErr, ExecResult, QueryResult, RuntimeErr, SqlxError, Statement,
};

use crate::backend;

pub(super) struct SimpleProtocol<'a> {
    pool: &'a PgPool,
}

impl<'a> SimpleProtocol<'a> {
    /// Only PostgreSQL has one.
    pub(super) fn on(db: &'a DatabaseConnection) -> Option<Self> {
        let pool = backend::postgres_pool(db)?;
        Some(Self { pool })
    }

    pub(super) async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let sql = sqlx::raw_sql(AssertSqlSafe(statement.to_string()));
        let result = self.pool.execute(sql).await;
        result
            .map(Into::into)
            .map_err(|err| DbErr::Exec(runtime(err)))
    }

    pub(super) async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let sql = sqlx::raw_sql(AssertSqlSafe(statement.to_string()));
        let rows = self.pool.fetch_all(sql).await;
        rows.map(|rows| rows.into_iter().map(Into::into).collect())
            .map_err(|err| DbErr::Query(runtime(err)))
    }
}

fn runtime(err: SqlxError) -> RuntimeErr {
    RuntimeErr::SqlxError(Arc::new(err))
}
