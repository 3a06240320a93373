//! Executes statements without preparing them, for poolers that don't support prepared statements.
//!
//! The driver prepares in one message and executes in the next. A pooler in transaction mode may
//! send the two to different server connections; only newer poolers (PgBouncer since 1.21) prevent
//! that. PostgreSQL's simple protocol needs a single message, which contains the values. The query
//! builder quotes them.

use sea_orm::Statement;
use sea_orm::sqlx::{self, AssertSqlSafe, RawSql};

pub(super) fn query(statement: &Statement) -> RawSql {
    sqlx::raw_sql(AssertSqlSafe(statement.to_string()))
}
