use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{DbErr, ExecResult, QueryResult, Statement};

/// Holds the only connection that writes to a SQLite file: every statement of that [`Pool`](crate::Pool) goes through
/// it.
#[async_trait]
pub trait OnlyWriter: fmt::Debug + Send + Sync {
    /// Executes a statement, after those that came before it.
    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr>;

    /// Fetches every row of a query, after the statements that came before it.
    async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr>;

    /// How long a call waits while another process locks the whole database. Statements fail earlier, and are repeated.
    fn lock_timeout(&self) -> Option<Duration>;
}
