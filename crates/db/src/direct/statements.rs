use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, StatementStatus, ToSql};
use sea_orm::{Statement, Value};

use super::file::PREPARED_STATEMENTS;
use super::row::{DirectRow, Names};
use crate::{Plan, Row};

/// A connection with its prepared statements.
pub(super) struct Statements {
    connection: Connection,
    /// How SQLite plans queries at present.
    plan: Plan,
    /// The names of the columns of each prepared query. A list, since comparing the texts of a few
    /// queries, nearly all of different lengths, takes less time than hashing one.
    names: Vec<(String, Arc<Names>)>,
    /// Whether the last query failed while SQLite may have been loading the schema.
    has_failed_to_load: bool,
}

impl Statements {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            plan: Plan::ByValues,
            names: Vec::new(),
            has_failed_to_load: false,
        }
    }

    /// Fetches all rows of a query.
    pub(super) fn fetch(&mut self, query: &Statement, plan: Plan) -> rusqlite::Result<Vec<Row>> {
        // Reset below, unless an error leaves this function first.
        self.has_failed_to_load = true;
        self.set_plan(plan)?;
        let mut prepared = self.connection.prepare_cached(&query.sql)?;
        let known = self.names.iter().find(|(sql, _)| *sql == query.sql);
        let (names, is_new) = match known {
            Some((_, names)) => (Arc::clone(names), false),
            None => {
                let names = prepared.column_names().into_iter();
                let names: Arc<Names> = names.map(Into::into).collect();
                if self.names.len() >= PREPARED_STATEMENTS {
                    self.names.clear();
                }
                self.names.push((query.sql.clone(), Arc::clone(&names)));
                (names, true)
            }
        };
        bind(&mut prepared, query)?;
        let loads = prepared.get_status(StatementStatus::RePrepare);
        let fetched = fetch_rows(&mut prepared, &names);
        let has_loaded = is_new || prepared.get_status(StatementStatus::RePrepare) != loads;
        self.has_failed_to_load = has_loaded && fetched.is_err();
        fetched
    }

    /// With a fixed plan, SQLite keeps a prepared query. Otherwise it prepares the query again when
    /// a value changes that it has looked at, including the limit of a list. That takes about a
    /// sixth of the time of a page of 50 runs.
    ///
    /// Whenever this changes, SQLite prepares all queries of the connection again.
    fn set_plan(&mut self, plan: Plan) -> rusqlite::Result<()> {
        if self.plan != plan {
            let is_fixed = plan == Plan::Fixed;
            self.connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, is_fixed)?;
            self.plan = plan;
        }
        Ok(())
    }

    /// Executes a statement that returns no rows; returns the number of rows that it has written or
    /// deleted.
    pub(super) fn execute(&self, statement: &Statement) -> rusqlite::Result<u64> {
        let mut prepared = self.connection.prepare_cached(&statement.sql)?;
        bind(&mut prepared, statement)?;
        let changes = prepared.raw_execute()?;
        Ok(changes as u64)
    }

    /// How the last query was planned.
    pub(super) fn plan(&self) -> Plan {
        self.plan
    }

    pub(super) fn has_failed_to_load(&self) -> bool {
        self.has_failed_to_load
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

fn bind(prepared: &mut CachedStatement<'_>, statement: &Statement) -> rusqlite::Result<()> {
    let values = statement.values.iter().flat_map(|values| &values.0);
    for (index, value) in values.enumerate() {
        prepared.raw_bind_parameter(index + 1, Bound(value))?;
    }
    Ok(())
}

fn fetch_rows(
    prepared: &mut rusqlite::Statement<'_>,
    names: &Arc<Names>,
) -> rusqlite::Result<Vec<Row>> {
    let mut rows = prepared.raw_query();
    let mut fetched = Vec::new();
    while let Some(row) = rows.next()? {
        fetched.push(DirectRow::read(names, row)?.into());
    }
    Ok(fetched)
}

/// A value of the query builder as a parameter.
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        fn integer<T: Copy + Into<i64>>(number: &Option<T>) -> ValueRef<'static> {
            number.map_or(ValueRef::Null, |number| ValueRef::Integer(number.into()))
        }

        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Bool(value) => integer(value),
            Value::TinyInt(value) => integer(value),
            Value::SmallInt(value) => integer(value),
            Value::Int(value) => integer(value),
            Value::BigInt(value) => integer(value),
            Value::TinyUnsigned(value) => integer(value),
            Value::SmallUnsigned(value) => integer(value),
            Value::Unsigned(value) => integer(value),
            Value::BigUnsigned(Some(value)) => match i64::try_from(*value) {
                Ok(value) => ValueRef::Integer(value),
                Err(err) => return Err(rusqlite::Error::ToSqlConversionFailure(err.into())),
            },
            Value::BigUnsigned(None) => ValueRef::Null,
            Value::Double(value) => value.map_or(ValueRef::Null, ValueRef::Real),
            Value::String(Some(text)) => ValueRef::Text(text.as_bytes()),
            Value::String(None) => ValueRef::Null,
            Value::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Value::Bytes(None) => ValueRef::Null,
            other => {
                let reason = format!("no query has parameters such as {other:?}");
                return Err(rusqlite::Error::ToSqlConversionFailure(reason.into()));
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::Query;
    use sea_orm::{DbBackend, Order};

    use super::*;
    use crate::Executable;

    #[test]
    fn only_a_query_with_a_fixed_plan_stays_prepared() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE a (x); CREATE TABLE b (x)")
            .unwrap();
        let mut statements = Statements::new(connection);
        for (table, plan, expected) in [("a", Plan::Fixed, 0), ("b", Plan::ByValues, 3)] {
            let query = |limit: u64| {
                let mut query = Query::select();
                query
                    .column("x")
                    .from(table)
                    .order_by("x", Order::Asc)
                    .limit(limit);
                query.statement(DbBackend::Sqlite)
            };
            for limit in [1, 2, 3] {
                statements.fetch(&query(limit), plan).unwrap();
            }
            let prepared = statements.connection.prepare_cached(&query(1).sql).unwrap();
            let times = prepared.get_status(StatementStatus::RePrepare);
            assert_eq!(times, expected, "{plan:?}");
        }
    }
}
