use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{DbErr, ExecResult, QueryResult, Statement};

/// Owns the only connection that writes to a SQLite file, and executes every statement of its
/// [`Pool`](crate::Pool).
#[async_trait]
pub trait OnlyWriter: fmt::Debug + Send + Sync {
    /// Executes a statement after all earlier ones.
    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr>;

    /// Fetches all rows of a query after all earlier statements.
    async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr>;

    /// Returns how long a call waits while another process locks the whole database. Its statements
    /// fail earlier and are retried.
    fn lock_timeout(&self) -> Option<Duration>;
}
