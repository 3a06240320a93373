use std::ops::Deref;

use runtrail_audit::{Error, Result};
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait, SelectStatement, TableRef};
use sea_orm::{QueryResult, StatementBuilder};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span, field, trace_span};

use crate::{Connection, Timing, backend, error};

/// One call of a method: a connection, the settings that statements on it go by, and the time it has to end.
///
/// The caller's settings `S` have a [`Timing`] in them; a session dereferences to them.
#[derive(Debug)]
pub struct Session<'a, C, S = Timing> {
    connection: &'a C,
    settings: &'a S,
    deadline: Option<Instant>,
    /// Whether others wait for this connection.
    is_shared: bool,
}

impl<'a, C: Connection, S: AsRef<Timing> + Sync> Session<'a, C, S> {
    /// A call that begins now.
    pub fn new(connection: &'a C, settings: &'a S) -> Self {
        Self {
            connection,
            settings,
            // None where it is too far away to be told.
            deadline: connection
                .pool()
                .and(settings.as_ref().call_timeout)
                .and_then(|timeout| Instant::now().checked_add(timeout)),
            is_shared: false,
        }
    }

    /// On a connection that others wait for.
    pub fn shared(connection: &'a C, settings: &'a S) -> Self {
        Self {
            is_shared: true,
            ..Self::new(connection, settings)
        }
    }

    /// A query that doesn't wait long for a lock if others wait for its connection.
    pub fn with_lock_timeout(&self, mut query: SelectStatement) -> SelectStatement {
        if let Some(lock_timeout) = self.lock_timeout_table() {
            query.from(lock_timeout);
        }
        query
    }

    /// What a statement selects from as well, so that it doesn't wait long for a lock while others wait for it.
    pub fn lock_timeout_table(&self) -> Option<TableRef> {
        if self.is_shared {
            backend::lock_timeout(self.connection)
        } else {
            None
        }
    }

    /// The same with all its time ahead: for the next step of a call that is as long as its data.
    pub fn with_fresh_deadline(&self) -> Self {
        Self::new(self.connection, self.settings)
    }

    /// The same call on another connection.
    pub fn through(&self, connection: &'a C) -> Self {
        Self {
            connection,
            ..*self
        }
    }

    /// The same call with other settings.
    pub fn with_settings<T>(&self, settings: &'a T) -> Session<'a, C, T> {
        Session {
            connection: self.connection,
            settings,
            deadline: self.deadline,
            is_shared: self.is_shared,
        }
    }

    /// The connection.
    pub fn connection(&self) -> &C {
        self.connection
    }

    /// Does something that can be repeated, as often as it has to be, until the deadline; or once on a connection that
    /// is somebody else's.
    pub async fn attempt<T, F>(&self, mut attempt: impl FnMut() -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let Some(pool) = self.connection.pool() else {
            return attempt().await;
        };
        let attempts = self.settings.as_ref().retry.run(pool.lock_timeout(), || {
            let attempt = attempt();
            async move {
                attempt
                    .await
                    .inspect_err(|err| pool.check_idle_connections(err))
            }
        });
        match self.deadline {
            Some(deadline) => timeout_at(deadline, attempts).await.unwrap_or_else(|late| {
                Err(Error::Timeout {
                    source: late.into(),
                })
            }),
            None => attempts.await,
        }
    }

    /// Executes one statement that gives no rows; returns how many it has written or deleted.
    pub async fn execute(&self, statement: &impl StatementBuilder) -> Result<u64> {
        let result = self
            .attempt(|| async {
                let span = self.statement_span(statement);
                let result = self.connection.execute(statement);
                let result = result.instrument(span.clone()).await;
                if let Ok(result) = &result {
                    span.record("rows", result.rows_affected());
                }
                result.map_err(error::database)
            })
            .await?;
        Ok(result.rows_affected())
    }

    /// Fetches every row of a query: stopping after the first would leave the statement half read, which costs
    /// SQLite more than it saves.
    pub async fn fetch(&self, query: &impl StatementBuilder) -> Result<Vec<QueryResult>> {
        self.attempt(|| async {
            let span = self.statement_span(query);
            let rows = self
                .connection
                .query_all(query)
                .instrument(span.clone())
                .await;
            if let Ok(rows) = &rows {
                span.record("rows", rows.len());
            }
            rows.map_err(error::database)
        })
        .await
    }

    /// A span for one statement, at trace level. Its text, which may hold values, is no part of it.
    fn statement_span(&self, statement: &impl StatementBuilder) -> Span {
        let span = trace_span!("statement", summary = field::Empty, rows = field::Empty);
        if !span.is_disabled() {
            let sql = statement.build(&self.connection.get_database_backend()).sql;
            span.record("summary", summary(&sql));
        }
        span
    }

    /// How many rows a query without columns has.
    pub async fn count(&self, mut query: SelectStatement) -> Result<u64> {
        query.expr_as(Expr::col(Asterisk).count(), "count");
        let rows = self.fetch(&query).await?;
        let counts = rows.iter().map(|row| row.try_get::<i64>("", "count"));
        let count: i64 = counts.sum::<Result<_, _>>().map_err(error::database)?;
        // Not negative: the database has counted.
        Ok(count.unsigned_abs())
    }
}

impl<C, S> Deref for Session<'_, C, S> {
    type Target = S;

    fn deref(&self) -> &S {
        self.settings
    }
}

/// The operation and the first table of a statement, such as `INSERT skill_runs`.
fn summary(sql: &str) -> String {
    let operation = sql.split_whitespace().next().unwrap_or_default();
    let mut words = sql.split_whitespace();
    let has_table_next = |word: &str| matches!(word, "INTO" | "UPDATE" | "FROM");
    while let Some(word) = words.next() {
        let is_quoted = |name: &&str| name.starts_with('"');
        if has_table_next(word)
            && let Some(table) = words.clone().next().filter(is_quoted)
        {
            let table = table.split('"').rfind(|part| !matches!(*part, "" | "."));
            return format!("{operation} {}", table.unwrap_or_default());
        }
    }
    operation.to_owned()
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn a_summary_has_the_operation_and_the_table() {
        for (sql, expected) in [
            (
                r#"INSERT INTO "skill_runs" ("id") VALUES ($1)"#,
                "INSERT skill_runs",
            ),
            (
                r#"UPDATE "audit"."skill_runs" SET "status" = $1"#,
                "UPDATE skill_runs",
            ),
            (
                r#"DELETE FROM "skill_runs" WHERE "id" = $1"#,
                "DELETE skill_runs",
            ),
            (
                r#"SELECT "id" FROM "skill_run_logs", "x""#,
                "SELECT skill_run_logs",
            ),
            (
                r#"SELECT 1 FROM (SELECT 2 FROM "skill_runs") AS "x""#,
                "SELECT skill_runs",
            ),
            ("PRAGMA optimize", "PRAGMA"),
            ("", ""),
        ] {
            assert_eq!(summary(sql), expected);
        }
    }
}
