//! Statements without preparing them, for poolers that can't keep prepared statements.
//!
//! The driver prepares in one message and executes in the next. A pooler in transaction mode may send the two to
//! different servers, and only newer ones (PgBouncer from 1.21 on) notice. PostgreSQL's simple protocol does it
//! in a single message, with the values written into the text: by the query builder, which quotes them.

use sea_orm::Statement;
use sea_orm::sqlx::{self, AssertSqlSafe, RawSql};

pub(super) fn query(statement: &Statement) -> RawSql {
    sqlx::raw_sql(AssertSqlSafe(statement.to_string()))
}
