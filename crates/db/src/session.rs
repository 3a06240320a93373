use std::ops::Deref;

use runtrail_audit::{Error, Result};
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait, SelectStatement, TableRef, UnionType};
use sea_orm::{DbBackend, StatementBuilder, Value};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span, field, trace_span};

use crate::shape::{Executable, Planned, Shape, ShapedStatement};
use crate::{Cost, Executor, Plan, Row, Timing, backend, error};

/// One call of a store method: its connection, its settings and its deadline.
///
/// The settings `S` contain a [`Timing`]; a session dereferences to `S`.
#[derive(Debug)]
pub struct Session<'a, C, S = Timing> {
    connection: &'a C,
    settings: &'a S,
    deadline: Option<Instant>,
    /// Whether other calls wait for this connection.
    is_shared: bool,
    /// The parent of the statements' spans. It is never entered: to wrap a call's future in its
    /// span would make the future larger, and concurrent writes about a seventh slower.
    span: Span,
}

impl<'a, C: Executor, S: AsRef<Timing> + Sync> Session<'a, C, S> {
    /// Starts a call; its timeout begins now.
    pub fn new(connection: &'a C, settings: &'a S) -> Self {
        Self {
            connection,
            settings,
            // None if an `Instant` can't represent it.
            deadline: connection
                .pool()
                .and(settings.as_ref().call_timeout)
                .and_then(|timeout| Instant::now().checked_add(timeout)),
            is_shared: false,
            span: Span::none(),
        }
    }

    /// Makes this the span of the call. It closes when the session is dropped.
    pub fn in_span(self, span: Span) -> Self {
        Self { span, ..self }
    }

    /// Starts a call on a connection that other calls wait for.
    pub fn shared(connection: &'a C, settings: &'a S) -> Self {
        Self {
            is_shared: true,
            ..Self::new(connection, settings)
        }
    }

    /// Adds a lock timeout to a query if its connection is shared.
    pub fn with_lock_timeout(&self, mut query: SelectStatement) -> SelectStatement {
        if let Some(lock_timeout) = self.lock_timeout_table() {
            query.from(lock_timeout);
        }
        query
    }

    /// Returns a table that adds a lock timeout to the statement that selects from it; `None` if
    /// the connection isn't shared, and on SQLite.
    pub fn lock_timeout_table(&self) -> Option<TableRef> {
        if self.is_shared {
            backend::lock_timeout(self.backend())
        } else {
            None
        }
    }

    /// Restarts the timeout, for the next step of a call whose duration depends on the amount of
    /// data.
    pub fn with_fresh_deadline(&self) -> Self {
        Self::new(self.connection, self.settings).in_span(self.span.clone())
    }

    /// Continues the call on another connection.
    pub fn through(&self, connection: &'a C) -> Self {
        Self {
            connection,
            span: self.span.clone(),
            ..*self
        }
    }

    /// Continues the call with other settings.
    pub fn with_settings<T>(&self, settings: &'a T) -> Session<'a, C, T> {
        Session {
            connection: self.connection,
            settings,
            deadline: self.deadline,
            is_shared: self.is_shared,
            span: self.span.clone(),
        }
    }

    /// Returns the connection.
    pub fn connection(&self) -> &C {
        self.connection
    }

    /// Returns the kind of database.
    pub fn backend(&self) -> DbBackend {
        self.connection.backend()
    }

    /// Runs a repeatable operation, with retries until the deadline. Without a pool (see
    /// [`Executor::pool`]), it runs once.
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
        self.within_deadline(attempts).await
    }

    /// Runs an operation until it completes or the deadline passes.
    pub async fn within_deadline<T: Send>(
        &self,
        operation: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match self.deadline {
            Some(deadline) => timeout_at(deadline, operation)
                .await
                .unwrap_or_else(|elapsed| {
                    Err(Error::Timeout {
                        source: elapsed.into(),
                    })
                }),
            None => operation.await,
        }
    }

    /// Returns a statement of this shape with these values, in the order of its placeholders.
    /// `build` returns the same statement, and is called only if its text isn't known yet.
    ///
    /// # Errors
    ///
    /// Those of `build`.
    pub fn shaped<B: StatementBuilder>(
        &self,
        shape: &Shape,
        values: impl IntoIterator<Item = Value>,
        build: impl FnOnce() -> Result<B>,
    ) -> Result<ShapedStatement> {
        let backend = self.backend();
        shape.statement(backend, self.is_shared, values, build)
    }

    /// Executes a statement that returns no rows; returns the number of rows that it has written or
    /// deleted.
    pub async fn execute(&self, statement: &impl Executable) -> Result<u64> {
        self.attempt(|| async {
            let span = self.statement_span(statement);
            let statement = statement.statement(self.backend());
            let changes = self.connection.changes(statement);
            let changes = changes.instrument(span.clone()).await;
            if let Ok(changes) = changes {
                span.record("rows", changes);
            }
            changes.map_err(error::database)
        })
        .await
    }

    /// Executes a statement whose parts write, and which selects one row with the number of rows
    /// that each part has written.
    pub async fn execute_parts(
        &self,
        statement: &impl Executable,
        parts: usize,
    ) -> Result<Vec<u64>> {
        self.attempt(|| async {
            let span = self.statement_span(statement);
            let statement = statement.statement(self.backend());
            let changes = self.connection.changes_of_parts(statement, parts);
            let changes = changes.instrument(span.clone()).await;
            if let Ok(changes) = &changes {
                span.record("rows", changes.iter().sum::<u64>());
            }
            changes.map_err(error::database)
        })
        .await
    }

    /// Fetches all rows of a query. Stopping after the first row would leave the statement
    /// unfinished, which costs SQLite more than it saves.
    pub async fn fetch(&self, query: &impl Executable) -> Result<Vec<Row>> {
        self.fetch_at_cost(query, Cost::Short).await
    }

    /// Like [`fetch`](Self::fetch), for a query that may take long, since its duration depends on
    /// the amount of data.
    pub async fn fetch_long(&self, query: &impl Executable) -> Result<Vec<Row>> {
        self.fetch_at_cost(query, Cost::Long).await
    }

    async fn fetch_at_cost(&self, query: &impl Executable, cost: Cost) -> Result<Vec<Row>> {
        self.attempt(|| async {
            let span = self.statement_span(query);
            let statement = query.statement(self.backend());
            let rows = self
                .connection
                .rows(statement, cost, query.plan())
                .instrument(span.clone())
                .await;
            if let Ok(rows) = &rows {
                span.record("rows", rows.len());
            }
            rows.map_err(error::database)
        })
        .await
    }

    /// Opens a trace span for one statement. Its text isn't included, since it may hold values.
    fn statement_span(&self, statement: &impl Executable) -> Span {
        let parent = || self.span.id().or_else(|| Span::current().id());
        let span = trace_span!(
            parent: parent(),
            "statement",
            summary = field::Empty,
            rows = field::Empty
        );
        if !span.is_disabled() {
            let sql = statement.statement(self.backend()).sql;
            span.record("summary", summary(&sql));
        }
        span
    }

    /// Counts the rows of a query that has no columns yet.
    pub async fn count(&self, mut query: SelectStatement) -> Result<u64> {
        query.expr(Expr::col(Asterisk).count());
        self.sum([query], Cost::Long, Plan::ByValues).await
    }

    /// Returns the sum of the counts; each query selects one. The sum must not be negative.
    pub async fn sum(
        &self,
        counts: impl IntoIterator<Item = SelectStatement>,
        cost: Cost,
        plan: Plan,
    ) -> Result<u64> {
        let mut counts = counts.into_iter();
        let mut query = counts.next().unwrap_or_default();
        query.unions(counts.map(|count| (UnionType::All, count)));
        let query = Planned(query, plan);
        let rows = self.fetch_at_cost(&query, cost).await?;
        let counts = rows.iter().map(|row| row.get::<i64>(0));
        let sum: i64 = counts.sum::<Result<_, _>>().map_err(error::database)?;
        Ok(sum.unsigned_abs())
    }
}

impl<C, S> Deref for Session<'_, C, S> {
    type Target = S;

    fn deref(&self) -> &S {
        self.settings
    }
}

/// The operation and the first table of a statement, such as `INSERT tickets`.
fn summary(sql: &str) -> String {
    let operation = sql.split_whitespace().next().unwrap_or_default();
    let mut words = sql.split_whitespace();
    let has_table_next = |word: &str| matches!(word, "INTO" | "UPDATE" | "FROM");
    while let Some(word) = words.next() {
        let is_quoted = |name: &&str| name.starts_with('"');
        if has_table_next(word)
            && let Some(table) = words.clone().next().filter(is_quoted)
        {
            let table = table.split('"').skip(1).step_by(2).last();
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
                r#"INSERT INTO "tickets" ("id") VALUES ($1)"#,
                "INSERT tickets",
            ),
            (
                r#"UPDATE "audit"."tickets" SET "status" = $1"#,
                "UPDATE tickets",
            ),
            (r#"DELETE FROM "tickets" WHERE "id" = $1"#, "DELETE tickets"),
            (r#"SELECT "id" FROM "notes", "x""#, "SELECT notes"),
            (
                r#"SELECT 1 FROM (SELECT 2 FROM "tickets") AS "x""#,
                "SELECT tickets",
            ),
            ("PRAGMA optimize", "PRAGMA"),
            ("", ""),
        ] {
            assert_eq!(summary(sql), expected);
        }
    }
}
