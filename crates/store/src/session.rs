use std::ops::Deref;

use runtrail_audit::Result;
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait, SelectStatement};
use sea_orm::{ConnectionTrait, QueryResult, StatementBuilder};

use crate::error;
use crate::settings::Settings;

/// A connection to a schema that has been found fit, and the settings that statements on it go by.
pub(crate) struct Session<'a, C> {
    connection: &'a C,
    settings: &'a Settings,
}

impl<'a, C: ConnectionTrait> Session<'a, C> {
    pub(crate) fn new(connection: &'a C, settings: &'a Settings) -> Self {
        Self {
            connection,
            settings,
        }
    }

    pub(crate) fn connection(&self) -> &C {
        self.connection
    }

    /// Executes one statement that gives no rows; returns how many it has written or deleted.
    pub(crate) async fn execute(&self, statement: &impl StatementBuilder) -> Result<u64> {
        let result = self.connection.execute(statement).await;
        Ok(result.map_err(error::database)?.rows_affected())
    }

    /// Fetches every row of a query: stopping after the first would leave the statement half read, which costs
    /// SQLite more than it saves.
    pub(crate) async fn fetch(&self, query: &impl StatementBuilder) -> Result<Vec<QueryResult>> {
        self.connection
            .query_all(query)
            .await
            .map_err(error::database)
    }

    /// How many rows a query without columns has.
    pub(crate) async fn count(&self, mut query: SelectStatement) -> Result<u64> {
        query.expr_as(Expr::col(Asterisk).count(), "count");
        let rows = self.fetch(&query).await?;
        let counts = rows.iter().map(|row| row.try_get::<i64>("", "count"));
        let count: i64 = counts.sum::<Result<_, _>>().map_err(error::database)?;
        // Not negative: the database has counted.
        Ok(count.unsigned_abs())
    }
}

impl<C> Deref for Session<'_, C> {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        self.settings
    }
}
