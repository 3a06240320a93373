use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, StatementStatus, ToSql};
use sea_orm::{Statement, Value};

use super::file::{PREPARED_STATEMENTS, ReadableFile};
use super::row::{DirectRow, Names};
use crate::Row;

/// A connection that reads a file, one query at a time.
pub(super) struct Reader {
    connection: Connection,
    guard: Arc<QueryGuard>,
    /// The names of the columns of each prepared query.
    names: HashMap<String, Arc<Names>>,
    /// The number of the last query.
    query: u64,
    /// Whether a query was stopped while SQLite may have been loading the schema.
    is_suspect: bool,
}

/// Stops a connection's query when its time is over or its caller has given up.
#[derive(Debug, Default)]
struct QueryGuard {
    /// The current query.
    query: AtomicU64,
    /// When to stop it, as [`nanos`]; `u64::MAX` is never.
    stop_at: AtomicU64,
    /// The last query whose caller has given up.
    abandoned: AtomicU64,
}

impl QueryGuard {
    fn must_stop(&self) -> bool {
        let stop_at = self.stop_at.load(Ordering::Relaxed);
        self.abandoned.load(Ordering::Relaxed) >= self.query.load(Ordering::Relaxed)
            || (stop_at != u64::MAX && nanos() >= stop_at)
    }
}

/// Stops a query when it is dropped, even if the query hasn't begun yet.
pub(super) struct StopOnDrop {
    guard: Arc<QueryGuard>,
    query: u64,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.guard
            .abandoned
            .fetch_max(self.query, Ordering::Relaxed);
    }
}

impl Reader {
    /// Opens a connection. It fails instead of waiting for a lock.
    pub(super) fn open(file: &ReadableFile) -> rusqlite::Result<Self> {
        /// SQLite calls the progress handler after this many instructions, which take a few
        /// microseconds. More frequent calls would slow queries down.
        const INSTRUCTIONS: i32 = 50;

        let connection = file.open()?;
        let guard = Arc::new(QueryGuard::default());
        let handler = Arc::clone(&guard);
        connection.progress_handler(INSTRUCTIONS, Some(move || handler.must_stop()))?;
        Ok(Self {
            connection,
            guard,
            names: HashMap::new(),
            query: 0,
            is_suspect: false,
        })
    }

    /// Returns a value that stops the next query when it is dropped.
    pub(super) fn stop_next_on_drop(&self) -> StopOnDrop {
        StopOnDrop {
            guard: Arc::clone(&self.guard),
            query: self.query + 1,
        }
    }

    /// Whether the connection must not be used again. When SQLite loads a changed schema, it also
    /// loads the planner's statistics. If this is interrupted, SQLite ignores the error and never
    /// loads them again.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// Fetches all rows of a query. Stops with an error when the budget is used up.
    pub(super) fn fetch(
        &mut self,
        statement: &Statement,
        budget: Option<Duration>,
    ) -> rusqlite::Result<Vec<Row>> {
        self.query += 1;
        let stop_at = budget.map_or(u64::MAX, |budget| {
            nanos().saturating_add(u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX))
        });
        self.guard.stop_at.store(stop_at, Ordering::Relaxed);
        self.guard.query.store(self.query, Ordering::Relaxed);

        // Reset below, unless an error leaves this function first.
        self.is_suspect = true;
        let mut prepared = self.connection.prepare_cached(&statement.sql)?;
        let (names, is_new) = match self.names.get(&statement.sql) {
            Some(names) => (Arc::clone(names), false),
            None => {
                let names = prepared.column_names().into_iter();
                let names: Arc<Names> = names.map(Into::into).collect();
                if self.names.len() >= PREPARED_STATEMENTS {
                    self.names.clear();
                }
                self.names.insert(statement.sql.clone(), Arc::clone(&names));
                (names, true)
            }
        };
        let values = statement.values.iter().flat_map(|values| &values.0);
        for (index, value) in values.enumerate() {
            prepared.raw_bind_parameter(index + 1, Bound(value))?;
        }
        let loads = prepared.get_status(StatementStatus::RePrepare);
        let fetched = fetch_rows(&mut prepared, &names);
        let has_loaded = is_new || prepared.get_status(StatementStatus::RePrepare) != loads;
        self.is_suspect = has_loaded && fetched.is_err();
        fetched
    }
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

/// The time since the first call, in nanoseconds.
fn nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();

    let elapsed = START.get_or_init(Instant::now).elapsed();
    // 2^64 nanoseconds are 584 years.
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
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
