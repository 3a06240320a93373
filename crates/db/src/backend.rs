//! SQL that depends on the backend.

use std::time::Duration;

use runtrail_audit::Result;
use sea_orm::sea_query::extension::postgres::PgBinOper;
use sea_orm::sea_query::extension::sqlite::SqliteBinOper;
use sea_orm::sea_query::{
    Alias, Expr, ExprTrait, Func, FunctionCall, IntoIden, Query, SelectStatement, TableRef,
};
use sea_orm::{DbBackend, Statement, Value};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};

use crate::error;

/// Returns whether a database has schemas that can qualify a table's name.
pub fn has_schemas(backend: DbBackend) -> bool {
    backend == DbBackend::Postgres
}

/// Returns whether a statement may wait for the lock of a single row.
pub fn has_row_locks(backend: DbBackend) -> bool {
    backend == DbBackend::Postgres
}

/// Returns whether a statement may consist of several that write.
pub fn combines_statements(backend: DbBackend) -> bool {
    backend == DbBackend::Postgres
}

/// Returns whether a database allows only one writer at a time, across all connections.
pub fn has_one_writer(backend: DbBackend) -> bool {
    backend == DbBackend::Sqlite
}

/// Returns whether the planner assumes that the rows with a value are spread evenly over a table.
/// It may then read rows in list order and skip those with other values, however many there are.
pub fn assumes_even_spread(backend: DbBackend) -> bool {
    backend == DbBackend::Postgres
}

/// Returns whether text may contain a NUL character.
pub fn holds_nul(backend: DbBackend) -> bool {
    backend != DbBackend::Postgres
}

/// Returns a condition that is true if the statement's connection enforces foreign keys. SQLite
/// only, where a host can disable them.
pub fn enforces_foreign_keys(backend: DbBackend) -> Option<Expr> {
    const PRAGMA: &str = "pragma_foreign_keys";

    let setting = Query::select()
        .column("foreign_keys")
        .from_function(Func::cust(PRAGMA), PRAGMA)
        .take();
    let setting = Expr::SubQuery(None, Box::new(setting.into()));
    (!has_schemas(backend)).then(|| setting.eq(1))
}

/// Returns the driver's pool of a connection to PostgreSQL.
#[cfg(feature = "postgres")]
pub fn postgres_pool(db: &sea_orm::DatabaseConnection) -> Option<&sea_orm::sqlx::PgPool> {
    match &db.inner {
        sea_orm::DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
            Some(db.get_postgres_connection_pool())
        }
        _ => None,
    }
}

/// Returns the driver's pool of a connection to SQLite.
#[cfg(feature = "sqlite")]
pub fn sqlite_pool(db: &sea_orm::DatabaseConnection) -> Option<&sea_orm::sqlx::SqlitePool> {
    match &db.inner {
        sea_orm::DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
            Some(db.get_sqlite_connection_pool())
        }
        _ => None,
    }
}

/// Returns a query for a number that changes with each commit of another connection. SQLite only.
#[cfg(feature = "sqlite")]
pub(crate) fn data_version() -> Statement {
    const PRAGMA: &str = "pragma_data_version";

    let query = Query::select()
        .column("data_version")
        .from_function(Func::cust(PRAGMA), PRAGMA)
        .take();
    DbBackend::Sqlite.build(&query)
}

/// Returns a pool's maximum number of connections and its acquire timeout.
pub fn pool_size(db: &sea_orm::DatabaseConnection) -> Option<(u32, Duration)> {
    #[cfg(feature = "sqlite")]
    if let Some(pool) = sqlite_pool(db) {
        let options = pool.options();
        return Some((options.get_max_connections(), options.get_acquire_timeout()));
    }
    #[cfg(feature = "postgres")]
    if let Some(pool) = postgres_pool(db) {
        let options = pool.options();
        return Some((options.get_max_connections(), options.get_acquire_timeout()));
    }
    None
}

/// Returns a statement that refreshes outdated planner statistics. Without statistics, SQLite
/// considers all indexes equally good. `None` on PostgreSQL, which refreshes them automatically.
pub fn optimize(backend: DbBackend) -> Option<Statement> {
    /// Runs ANALYZE on each table that has no statistics yet or has grown or shrunk tenfold. A
    /// limit on the rows that it reads would make it useless for skewed values: it would read only
    /// the beginning of each index.
    const OPTIMIZE: &str = "PRAGMA optimize=0x10002";

    #[expect(clippy::disallowed_methods, reason = "a pragma can't be built")]
    let optimize = Statement::from_string(DbBackend::Sqlite, OPTIMIZE);
    (backend == DbBackend::Sqlite).then_some(optimize)
}

/// Returns a statement that switches a SQLite file to the write-ahead log, if it isn't in that mode
/// yet.
pub fn write_ahead_log() -> Statement {
    #[expect(clippy::disallowed_methods, reason = "a pragma can't be built")]
    let write_ahead_log = Statement::from_string(DbBackend::Sqlite, "PRAGMA journal_mode = WAL");
    write_ahead_log
}

/// Returns the current time by the clock of the database, in microseconds since the epoch. On
/// PostgreSQL, it is the time at which the statement arrived.
pub fn now(backend: DbBackend) -> Expr {
    const MICROS_PER_SECOND: f64 = 1_000_000.0;
    const MICROS_PER_DAY: f64 = 86_400.0 * MICROS_PER_SECOND;
    /// The epoch as a Julian day.
    const EPOCH: f64 = 2_440_587.5;

    let number = |number: f64| Expr::Constant(number.into());
    let micros = match backend {
        DbBackend::Postgres => Expr::from(
            Func::cust("date_part")
                .arg(Expr::Constant("epoch".into()))
                .arg(Func::cust("statement_timestamp")),
        )
        .mul(number(MICROS_PER_SECOND)),
        _ => Expr::from(Func::cust("julianday").arg(Expr::Constant("now".into())))
            .sub(number(EPOCH))
            .mul(number(MICROS_PER_DAY)),
    };
    micros.cast_as("bigint")
}

/// Returns a number of seconds as whole microseconds, rounded to the nearest one; at most 9e18.
pub fn micros(backend: DbBackend, seconds: Expr) -> Expr {
    const LONGEST: f64 = 9e12;
    const LONGEST_MICROS: i64 = 9_000_000_000_000_000_000;

    let rounded = |seconds: Expr| {
        let micros = seconds.mul(Expr::Constant(1_000_000.0.into()));
        micros.add(Expr::Constant(0.5.into()))
    };
    match backend {
        DbBackend::Postgres => {
            let seconds = Func::least([seconds, Expr::Constant(LONGEST.into())]);
            Func::cust("floor")
                .arg(rounded(seconds.into()))
                .cast_as("bigint")
        }
        // The cast truncates, and limits the number to 64 bits.
        _ => Func::cust("min")
            .arg(rounded(seconds).cast_as("bigint"))
            .arg(Expr::Constant(LONGEST_MICROS.into()))
            .into(),
    }
}

/// Returns an aggregate: a text with all numbers of a group that aren't NULL, separated by commas,
/// in any order. NULL if there are none.
pub fn listed(backend: DbBackend, number: Expr) -> Expr {
    let function = match backend {
        DbBackend::Postgres => "string_agg",
        _ => "group_concat",
    };
    Func::cust(function)
        .arg(number.cast_as("text"))
        .arg(Expr::Constant(",".into()))
        .into()
}

/// Returns the sum of integers as a floating-point number. It never overflows.
pub fn rounded_sum(backend: DbBackend, number: Expr) -> Expr {
    match backend {
        // SQLite adds integers, and only converts their sum.
        DbBackend::Sqlite => Func::cust("total").arg(number).into(),
        _ => number.cast_as("double precision").sum(),
    }
}

/// Returns a subquery that the planner doesn't merge into the query around it. PostgreSQL only: if
/// rows are grouped by an expression, it would assume that each is a group of its own, and sort all
/// rows instead of finding their groups by hash.
pub fn unmerged(backend: DbBackend, mut query: SelectStatement) -> SelectStatement {
    if has_schemas(backend) {
        query.limit(ALL);
    }
    query
}

/// Returns the condition of a join, marked as selective: SQLite then searches the index of the
/// joined column, whatever its statistics say. They can mislead: if the column is NULL in all rows,
/// SQLite expects a search to find all rows, and reads the whole table for each row of the other
/// side.
pub fn selective(backend: DbBackend, condition: Expr) -> Expr {
    match backend {
        DbBackend::Sqlite => Func::cust("unlikely").arg(condition).into(),
        _ => condition,
    }
}

/// Returns a table of one row that adds a lock timeout to the statement that selects from it. The
/// statement then fails early and frees its connection. PostgreSQL only, where an open transaction
/// may lock a row indefinitely.
///
/// The setting applies before any row is read, locked or written. It ends with the statement, which
/// is a transaction of its own, so it also works behind a pooler.
pub fn lock_timeout(backend: DbBackend) -> Option<TableRef> {
    const MILLISECONDS: &str = "50";

    let set = Func::cust("set_config")
        .arg(Expr::Constant("lock_timeout".into()))
        .arg(Expr::Constant(MILLISECONDS.into()))
        .arg(Expr::Constant(true.into()));
    has_schemas(backend).then(|| TableRef::FunctionCall(set, "lock_timeout".into_iden()))
}

/// The table that [`unfold`] and [`unfold_rows`] return, and its only column.
pub const LIST: (&str, &str) = ("list", "value");

/// Returns a list of texts as the table `LIST`, in one parameter whatever its length. With one
/// parameter per text, the list would be limited to 32,766 texts, and each length would need its
/// own prepared statement.
pub fn unfold(backend: DbBackend, texts: &[impl AsRef<str>]) -> Result<SelectStatement> {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let list = list(backend, "jsonb_array_elements_text", &texts)?;
    Ok(Query::select()
        .column(LIST)
        .from_function(list, Alias::new(LIST.0))
        .take())
}

/// Returns the texts that a query selects as a table with this name and the column of [`LIST`]. The
/// query selects that column too.
///
/// Unlike a subquery, it may refer to the tables before it in the same `FROM`. SQLite has no
/// `LATERAL`, but the arguments of a function may refer to them on both.
pub fn unfold_texts(backend: DbBackend, texts: SelectStatement, name: &'static str) -> TableRef {
    let (gather, unfold) = match backend {
        DbBackend::Postgres => ("jsonb_agg", "jsonb_array_elements_text"),
        _ => ("json_group_array", "json_each"),
    };
    let gathered = Query::select()
        .expr(Func::cust(gather).arg(Expr::col(LIST.1)))
        .from_subquery(texts, "texts")
        .take();
    let gathered = Expr::SubQuery(None, Box::new(gathered.into()));
    TableRef::FunctionCall(Func::cust(unfold).arg(gathered), name.into_iden())
}

/// Returns a condition that is true if a column has one of these values. It keeps SQLite from using
/// an index on the column. Such an index returns rows in the order of the values, so SQLite would
/// have to sort all matches for the first page.
pub fn is_in(backend: DbBackend, column: Expr, values: &[impl AsRef<str>]) -> Result<Expr> {
    let column = match backend {
        DbBackend::Postgres => column,
        _ => column.cast_as("text"),
    };
    Ok(is_in_query(backend, column, unfold(backend, values)?))
}

/// Returns a condition that is true if a column has one of the values that a query selects.
pub fn is_in_query(backend: DbBackend, column: Expr, values: SelectStatement) -> Expr {
    match backend {
        // An array is built once. PostgreSQL assumes that it is short, and looks up its values by
        // hash, or in an index.
        DbBackend::Postgres => {
            let array = Func::cust("ARRAY").arg(Expr::SubQuery(None, Box::new(values.into())));
            column.eq(Func::cust("ANY").arg(array))
        }
        _ => column.in_subquery(values),
    }
}

/// A limit that no table reaches: the largest number that the drivers can bind.
pub const ALL: u64 = i64::MAX.unsigned_abs();

/// Returns a list of rows as the table `LIST`, in one parameter. [`field`] reads their values.
pub fn unfold_rows(backend: DbBackend, rows: &[impl Serialize]) -> Result<TableRef> {
    let list = list(backend, "jsonb_array_elements", rows)?;
    if !has_schemas(backend) {
        return Ok(TableRef::FunctionCall(list, LIST.0.into_iden()));
    }
    // The limit excludes no row; it lowers the planner's estimate. PostgreSQL assumes that the list
    // has 100 rows, and prefers a scan of up to 10,000 rows to 100 lookups. For a limit whose value
    // it doesn't know, it assumes a tenth of the rows. The limit never depends on the list: with a
    // small limit, PostgreSQL would plan each execution anew.
    let rows = Query::select()
        .column(LIST.1)
        .from_function(list, "rows")
        .limit(ALL)
        .take();
    Ok(TableRef::SubQuery(Box::new(rows), LIST.0.into_iden()))
}

/// Returns the value at this index, or under this key, in a row of [`unfold_rows`], as text.
pub fn field(backend: DbBackend, key: impl Into<Value>) -> Expr {
    text_of(backend, Expr::col(LIST), key)
}

/// Returns the number that [`serialize_fraction`] wrote at this index or under this key.
pub fn fraction(backend: DbBackend, key: impl Into<Value>) -> Expr {
    let row = Expr::col(LIST);
    let key = Expr::Constant(key.into());
    let parts = match backend {
        DbBackend::Postgres => row.binary(PgBinOper::GetJsonField, key),
        _ => row.binary(SqliteBinOper::GetJsonField, key),
    };
    let part = |index: i32| text_of(backend, parts.clone(), index).cast_as("double precision");
    part(0).div(part(1)).div(part(2))
}

/// Returns integers `a`, `b` and `c` such that the float is `a / b / c`. `None` if there are none:
/// the float's magnitude is above 2^62, or the float is too close to zero.
pub fn quotient(float: f64) -> Option<(i64, i64, i64)> {
    const MAX: i64 = 1 << 62;

    let (mut numerator, mut denominators) = (float, (1_i64, 1_i64));
    while numerator.fract() != 0.0 && denominators.1 < MAX {
        numerator *= 2.0;
        match denominators.0 {
            MAX => denominators.1 *= 2,
            _ => denominators.0 *= 2,
        }
    }
    let is_exact = numerator.fract() == 0.0 && numerator.abs() <= MAX as f64;
    is_exact.then_some((numerator as i64, denominators.0, denominators.1))
}

/// Serialises a float as its [`quotient`], since SQLite doesn't always parse a decimal number as
/// the nearest float. Fails if there is none.
pub fn serialize_fraction<S: Serializer>(
    float: &f64,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    match quotient(*float) {
        Some(quotient) => quotient.serialize(serializer),
        None => Err(S::Error::custom("the number isn't a quotient of integers")),
    }
}

/// Serialises an optional float like [`serialize_fraction`].
pub fn serialize_fraction_if_any<S: Serializer>(
    float: &Option<f64>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    match float {
        Some(float) => serialize_fraction(float, serializer),
        None => serializer.serialize_none(),
    }
}

fn text_of(backend: DbBackend, json: Expr, key: impl Into<Value>) -> Expr {
    let key = Expr::Constant(key.into());
    match backend {
        DbBackend::Postgres => json.binary(PgBinOper::CastJsonField, key),
        _ => json.binary(SqliteBinOper::CastJsonField, key),
    }
}

fn list(
    backend: DbBackend,
    postgres_function: &'static str,
    list: &[impl Serialize],
) -> Result<FunctionCall> {
    let json = serde_json::to_string(list).map_err(error::json)?;
    Ok(match backend {
        DbBackend::Postgres => Func::cust(postgres_function).arg(Expr::val(json).cast_as("jsonb")),
        // Rows stay in binary form, so that SQLite parses the list only once.
        _ => Func::cust("jsonb_each").arg(json),
    })
}

#[cfg(test)]
mod tests {
    use super::quotient;

    #[test]
    fn a_quotient_is_the_float_to_the_last_bit() {
        for float in [
            0.0,
            -0.0,
            0.1,
            -2.5,
            1.0 / 3.0,
            1e18,
            2_f64.powi(62),
            1e-20,
            f64::EPSILON,
        ] {
            let (numerator, first, second) = quotient(float).unwrap();
            assert_eq!(numerator as f64 / first as f64 / second as f64, float);
        }
    }

    #[test]
    fn some_floats_have_no_quotient() {
        for float in [1e19, f64::MAX, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY] {
            assert_eq!(quotient(float), None, "{float}");
        }
    }
}
