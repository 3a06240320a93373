use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{DbErr, Statement};

use crate::Row;

/// Owns the connection that executes every statement of a SQLite [`Pool`](crate::Pool). Only
/// migrations are written on another one.
#[async_trait]
pub trait OnlyWriter: fmt::Debug + Send + Sync {
    /// Executes a statement after all earlier ones; returns the number of rows that it has written
    /// or deleted.
    async fn changes(&self, statement: Statement) -> Result<u64, DbErr>;

    /// Fetches all rows of a query after all earlier statements.
    async fn rows(&self, query: Statement) -> Result<Vec<Row>, DbErr>;

    /// Returns how long a call waits while another process locks the whole database. Its statements
    /// fail earlier and are retried.
    fn lock_timeout(&self) -> Option<Duration>;
}
