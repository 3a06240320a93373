//! The only place that asks which backend a statement or a connection is for.

use runtrail_audit::{Error, Result};
use sea_orm::sea_query::extension::postgres::PgBinOper;
use sea_orm::sea_query::extension::sqlite::SqliteBinOper;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Func, FunctionCall, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DbBackend};
use serde::Serialize;

/// Whether a database has schemas, to which a table's name can be qualified.
pub(crate) fn has_schemas(connection: &impl ConnectionTrait) -> bool {
    connection.get_database_backend() == DbBackend::Postgres
}

/// The pool below a connection to PostgreSQL.
#[cfg(feature = "postgres")]
pub(crate) fn postgres_pool(db: &sea_orm::DatabaseConnection) -> Option<&sea_orm::sqlx::PgPool> {
    match &db.inner {
        sea_orm::DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
            Some(db.get_postgres_connection_pool())
        }
        _ => None,
    }
}

/// The table that [`unfold`] and [`unfold_rows`] give, and its only column.
pub(crate) const LIST: (&str, &str) = ("list", "value");

/// A list of texts as a table, `LIST`: one parameter however long the list is. A parameter for each would stop
/// at 32,766 of them, and give every length of the list a statement of its own to prepare.
pub(crate) fn unfold(
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

/// A list of rows as a table, `LIST`, of which [`field`] takes the values; one parameter as well.
pub(crate) fn unfold_rows(
    connection: &impl ConnectionTrait,
    rows: &[impl Serialize],
) -> Result<SelectStatement> {
    let list = list(connection, "jsonb_array_elements", rows)?;
    Ok(Query::select()
        .from_function(list, Alias::new(LIST.0))
        .take())
}

/// The value at this place of a row of [`unfold_rows`], as text.
pub(crate) fn field(connection: &impl ConnectionTrait, place: i32) -> Expr {
    let row = Expr::col(LIST);
    let place = Expr::Constant(place.into());
    match connection.get_database_backend() {
        DbBackend::Postgres => row.binary(PgBinOper::CastJsonField, place),
        _ => row.binary(SqliteBinOper::CastJsonField, place),
    }
}

fn list(
    connection: &impl ConnectionTrait,
    postgres_function: &'static str,
    list: &[impl Serialize],
) -> Result<FunctionCall> {
    let json = serde_json::to_string(list).map_err(|err| Error::Backend {
        transient: false,
        source: Box::new(err),
    })?;
    Ok(match connection.get_database_backend() {
        DbBackend::Postgres => Func::cust(postgres_function).arg(Expr::val(json).cast_as("jsonb")),
        _ => Func::cust("json_each").arg(json),
    })
}
