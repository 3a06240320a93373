//! The only place that asks which backend a statement or a connection is for.

use std::time::Duration;

use runtrail_audit::Result;
use sea_orm::sea_query::extension::postgres::PgBinOper;
use sea_orm::sea_query::extension::sqlite::SqliteBinOper;
use sea_orm::sea_query::{
    Alias, Expr, ExprTrait, Func, FunctionCall, IntoIden, Query, SelectStatement, TableRef,
};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};

use crate::error;

/// Whether a database has schemas, to which a table's name can be qualified.
pub fn has_schemas(connection: &impl ConnectionTrait) -> bool {
    connection.get_database_backend() == DbBackend::Postgres
}

/// Whether a statement may wait for the lock of a single row.
pub fn has_row_locks(connection: &impl ConnectionTrait) -> bool {
    connection.get_database_backend() == DbBackend::Postgres
}

/// Whether a database has only one writer at a time, whatever connection it writes through.
pub fn has_one_writer(connection: &impl ConnectionTrait) -> bool {
    connection.get_database_backend() == DbBackend::Sqlite
}

/// Whether a text may have a NUL character.
pub fn holds_nul(connection: &impl ConnectionTrait) -> bool {
    connection.get_database_backend() != DbBackend::Postgres
}

/// Whether the connection that runs the statement enforces foreign keys. SQLite only, where a host can switch them off.
pub fn enforces_foreign_keys(connection: &impl ConnectionTrait) -> Option<Expr> {
    const PRAGMA: &str = "pragma_foreign_keys";

    let setting = Query::select()
        .column("foreign_keys")
        .from_function(Func::cust(PRAGMA), PRAGMA)
        .take();
    let setting = Expr::SubQuery(None, Box::new(setting.into()));
    (!has_schemas(connection)).then(|| setting.eq(1))
}

/// The pool below a connection to PostgreSQL.
#[cfg(feature = "postgres")]
pub fn postgres_pool(db: &sea_orm::DatabaseConnection) -> Option<&sea_orm::sqlx::PgPool> {
    match &db.inner {
        sea_orm::DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
            Some(db.get_postgres_connection_pool())
        }
        _ => None,
    }
}

/// Whether SQLite holds a value as text, be it UTF-8 or not.
#[cfg(feature = "sqlite")]
pub fn is_text(row: &sea_orm::QueryResult, column: &str) -> bool {
    use sea_orm::sqlx::{Row, TypeInfo, ValueRef};

    let row = row.try_as_sqlite_row();
    let value = row.and_then(|row| row.try_get_raw(column).ok());
    value.is_some_and(|value| value.type_info().name() == "TEXT")
}

/// PostgreSQL's values have the type of their column.
#[cfg(not(feature = "sqlite"))]
pub fn is_text(_row: &sea_orm::QueryResult, _column: &str) -> bool {
    false
}

/// The pool below a connection to SQLite.
#[cfg(feature = "sqlite")]
pub fn sqlite_pool(db: &sea_orm::DatabaseConnection) -> Option<&sea_orm::sqlx::SqlitePool> {
    match &db.inner {
        sea_orm::DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
            Some(db.get_sqlite_connection_pool())
        }
        _ => None,
    }
}

/// How many connections a pool has at most, and how long it lets others wait for one.
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

/// Has the planner's statistics brought up to date, if they are far from it: without any, SQLite takes every index for
/// an equally good one. PostgreSQL does this by itself.
pub fn optimize(connection: &impl ConnectionTrait) -> Option<Statement> {
    /// To run ANALYZE on every table that has none yet or has grown or shrunk tenfold. A bound on what it reads would be
    /// worth little: it reads the beginning of an index, which says nothing where some values are common and others not.
    const OPTIMIZE: &str = "PRAGMA optimize=0x10002";

    #[expect(clippy::disallowed_methods, reason = "a pragma can't be built")]
    let optimize = Statement::from_string(DbBackend::Sqlite, OPTIMIZE);
    (connection.get_database_backend() == DbBackend::Sqlite).then_some(optimize)
}

/// Switches a SQLite file to the write-ahead log, if it isn't in that mode yet.
pub fn write_ahead_log() -> Statement {
    #[expect(clippy::disallowed_methods, reason = "a pragma can't be built")]
    let write_ahead_log = Statement::from_string(DbBackend::Sqlite, "PRAGMA journal_mode = WAL");
    write_ahead_log
}

/// A table of one row, whose statement fails when it has waited so long for a lock, and so leaves the connection to
/// others. PostgreSQL only, where somebody's open transaction may lock a row for as long as it likes.
///
/// The setting ends with the statement, which is a transaction by itself, and no row is read, locked or written before
/// it holds. So it works behind a pooler too.
pub fn lock_timeout(connection: &impl ConnectionTrait) -> Option<TableRef> {
    const MILLISECONDS: &str = "50";

    let set = Func::cust("set_config")
        .arg(Expr::Constant("lock_timeout".into()))
        .arg(Expr::Constant(MILLISECONDS.into()))
        .arg(Expr::Constant(true.into()));
    has_schemas(connection).then(|| TableRef::FunctionCall(set, "patience".into_iden()))
}

/// The table that [`unfold`] and [`unfold_rows`] give, and its only column.
pub const LIST: (&str, &str) = ("list", "value");

/// A list of texts as a table, `LIST`: one parameter however long the list is. A parameter for each would stop
/// at 32,766 of them, and give every length of the list a statement of its own to prepare.
pub fn unfold(
    connection: &impl ConnectionTrait,
    texts: &[impl AsRef<str>],
) -> Result<SelectStatement> {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let list = list(connection, "jsonb_array_elements_text", &texts)?;
    Ok(Query::select()
        .column(LIST)
        .from_function(list, Alias::new(LIST.0))
        .take())
}

/// Whether a column has one of these values, which is found out row by row: an index of the column would lead to the
/// rows in the order of the values, and all of them would have to be sorted for the first page.
pub fn is_in(
    connection: &impl ConnectionTrait,
    column: Expr,
    values: &[impl AsRef<str>],
) -> Result<Expr> {
    let values = unfold(connection, values)?;
    Ok(match connection.get_database_backend() {
        // As an array it is made once, and looked up by a hash.
        DbBackend::Postgres => {
            let array = Func::cust("ARRAY").arg(Expr::SubQuery(None, Box::new(values.into())));
            column.eq(Func::cust("ANY").arg(array))
        }
        // The cast hides the column from the planner.
        _ => column.cast_as("text").in_subquery(values),
    })
}

/// A limit for all rows: more than any table has, and the largest number that the drivers can bind.
pub const ALL: u64 = i64::MAX.unsigned_abs();

/// A list of rows as a table, `LIST`, of which [`field`] takes the values; one parameter as well.
pub fn unfold_rows(connection: &impl ConnectionTrait, rows: &[impl Serialize]) -> Result<TableRef> {
    let list = list(connection, "jsonb_array_elements", rows)?;
    if !has_schemas(connection) {
        return Ok(TableRef::FunctionCall(list, LIST.0.into_iden()));
    }
    // The limit leaves nothing out. But of one that it doesn't know PostgreSQL's planner expects a tenth of the list, which
    // it takes for 100 rows: for so many it would rather read up to 10,000 rows than look each of them up. It is the same
    // for every list, for with a small one a plan for just this list would seem worth making each time.
    let rows = Query::select()
        .column(LIST.1)
        .from_function(list, "rows")
        .limit(ALL)
        .take();
    Ok(TableRef::SubQuery(Box::new(rows), LIST.0.into_iden()))
}

/// The value at this place of a row of [`unfold_rows`], or by this name, as text.
pub fn field(connection: &impl ConnectionTrait, key: impl Into<Value>) -> Expr {
    text_of(connection, Expr::col(LIST), key)
}

/// The number that stands there as [`serialize_fraction`] has written it.
pub fn fraction(connection: &impl ConnectionTrait, key: impl Into<Value>) -> Expr {
    let row = Expr::col(LIST);
    let key = Expr::Constant(key.into());
    let parts = match connection.get_database_backend() {
        DbBackend::Postgres => row.binary(PgBinOper::GetJsonField, key),
        _ => row.binary(SqliteBinOper::GetJsonField, key),
    };
    let part = |place: i32| text_of(connection, parts.clone(), place).cast_as("double precision");
    part(0).div(part(1)).div(part(2))
}

/// A float as three integers, the first of which it is when divided by the others; none if it is no such quotient: one of
/// 2^63 or more, or hardly more than nothing.
pub fn quotient(float: f64) -> Option<(i64, i64, i64)> {
    const LARGEST: i64 = 1 << 62;

    let (mut numerator, mut denominators) = (float, (1_i64, 1_i64));
    while numerator.fract() != 0.0 && denominators.1 < LARGEST {
        numerator *= 2.0;
        match denominators.0 {
            LARGEST => denominators.1 *= 2,
            _ => denominators.0 *= 2,
        }
    }
    let is_exact = numerator.fract() == 0.0 && numerator.abs() <= LARGEST as f64;
    is_exact.then_some((numerator as i64, denominators.0, denominators.1))
}

/// Writes a float as its [`quotient`]: SQLite doesn't always read a float as the nearest one. It fails if there is none.
pub fn serialize_fraction<S: Serializer>(
    float: &f64,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    match quotient(*float) {
        Some(quotient) => quotient.serialize(serializer),
        None => Err(S::Error::custom("a number that is no quotient of integers")),
    }
}

/// The same for an optional float.
pub fn serialize_fraction_if_any<S: Serializer>(
    float: &Option<f64>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    match float {
        Some(float) => serialize_fraction(float, serializer),
        None => serializer.serialize_none(),
    }
}

fn text_of(connection: &impl ConnectionTrait, json: Expr, key: impl Into<Value>) -> Expr {
    let key = Expr::Constant(key.into());
    match connection.get_database_backend() {
        DbBackend::Postgres => json.binary(PgBinOper::CastJsonField, key),
        _ => json.binary(SqliteBinOper::CastJsonField, key),
    }
}

fn list(
    connection: &impl ConnectionTrait,
    postgres_function: &'static str,
    list: &[impl Serialize],
) -> Result<FunctionCall> {
    let json = serde_json::to_string(list).map_err(error::json)?;
    Ok(match connection.get_database_backend() {
        DbBackend::Postgres => Func::cust(postgres_function).arg(Expr::val(json).cast_as("jsonb")),
        _ => Func::cust("json_each").arg(json),
    })
}
