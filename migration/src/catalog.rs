//! Queries of the database's catalog. They only read and need no write privileges.

use sea_orm::sea_query::{BinOper, Expr, ExprTrait, Func, FunctionCall, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DbBackend, DbErr};

use crate::SchemaName;

/// Returns the columns of a table; none if it doesn't exist.
pub(crate) async fn columns(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
    table: &str,
) -> Result<Vec<String>, DbErr> {
    let mut query = Query::select();
    match db.get_database_backend() {
        DbBackend::Postgres => query
            .expr(Expr::col("attname").cast_as("text"))
            .from(("pg_catalog", "pg_attribute"))
            .and_where(Expr::col("attrelid").eq(regclass(schema, table)))
            .and_where(Expr::col("attnum").gt(0))
            .and_where(Expr::col("attisdropped").eq(false)),
        _ => query
            .column("name")
            .from_function(Func::cust("pragma_table_info").arg(table), "info"),
    };
    strings(db, &query).await
}

/// Returns the columns of a table's primary key, in any order.
pub(crate) async fn primary_key(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
    table: &str,
) -> Result<Vec<String>, DbErr> {
    let mut query = Query::select();
    match db.get_database_backend() {
        // The attributes of the index behind the primary key.
        DbBackend::Postgres => query
            .expr(Expr::col("attname").cast_as("text"))
            .from(("pg_catalog", "pg_attribute"))
            .and_where(
                Expr::col("attrelid").in_subquery(
                    Query::select()
                        .column("indexrelid")
                        .from(("pg_catalog", "pg_index"))
                        .and_where(Expr::col("indrelid").eq(regclass(schema, table)))
                        .and_where(Expr::col("indisprimary").eq(true))
                        .take(),
                ),
            ),
        _ => query
            .column("name")
            .from_function(Func::cust("pragma_table_info").arg(table), "info")
            .and_where(Expr::col("pk").gt(0)),
    };
    strings(db, &query).await
}

/// Returns the names of a table's indexes.
pub(crate) async fn indexes(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
    table: &str,
) -> Result<Vec<String>, DbErr> {
    let mut query = Query::select();
    match db.get_database_backend() {
        DbBackend::Postgres => query
            .expr(Expr::col("relname").cast_as("text"))
            .from(("pg_catalog", "pg_class"))
            .and_where(
                Expr::col("oid").in_subquery(
                    Query::select()
                        .column("indexrelid")
                        .from(("pg_catalog", "pg_index"))
                        .and_where(Expr::col("indrelid").eq(regclass(schema, table)))
                        .take(),
                ),
            ),
        _ => query
            .column("name")
            .from_function(Func::cust("pragma_index_list").arg(table), "list"),
    };
    strings(db, &query).await
}

/// Returns the names of a table's triggers, without disabled ones.
pub(crate) async fn triggers(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
    table: &str,
) -> Result<Vec<String>, DbErr> {
    let mut query = Query::select();
    match db.get_database_backend() {
        DbBackend::Postgres => query
            .expr(Expr::col("tgname").cast_as("text"))
            .from(("pg_catalog", "pg_trigger"))
            .and_where(Expr::col("tgrelid").eq(regclass(schema, table)))
            .and_where(Expr::col("tgenabled").cast_as("text").ne("D")),
        _ => query
            .column("name")
            .from("sqlite_master")
            .and_where(Expr::col("type").eq("trigger"))
            .and_where(Expr::col("tbl_name").eq(table)),
    };
    strings(db, &query).await
}

/// Returns the columns that don't compare by bytes; PostgreSQL only.
pub(crate) async fn columns_in_another_collation(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
    table: &str,
) -> Result<Vec<String>, DbErr> {
    let bytes = Func::cust("to_regcollation").arg(r#"pg_catalog."C""#);
    let query = Query::select()
        .expr(Expr::col("attname").cast_as("text"))
        .from(("pg_catalog", "pg_attribute"))
        .and_where(Expr::col("attrelid").eq(regclass(schema, table)))
        .and_where(Expr::col("attnum").gt(0))
        .and_where(Expr::col("attcollation").ne(bytes))
        .take();
    strings(db, &query).await
}

/// Returns the foreign keys of a table to `parent` with this `ON DELETE` action: on PostgreSQL the
/// names of all such keys, quoted for `ALTER TABLE`; on SQLite only the keys of this column.
pub(crate) async fn foreign_keys(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
    (table, column): (&str, &str),
    parent: &str,
    on_delete: OnDelete,
) -> Result<Vec<String>, DbErr> {
    let is_cascade = |action: &'static str, name: &'static str| {
        let operator = match on_delete {
            OnDelete::Cascade => BinOper::Equal,
            OnDelete::Other => BinOper::NotEqual,
        };
        Expr::col(name).cast_as("text").binary(operator, action)
    };
    let mut query = Query::select();
    match db.get_database_backend() {
        DbBackend::Postgres => {
            let name = Func::cust("quote_ident").arg(Expr::col("conname").cast_as("text"));
            query
                .expr(name)
                .from(("pg_catalog", "pg_constraint"))
                .and_where(Expr::col("contype").cast_as("text").eq("f"))
                .and_where(Expr::col("conrelid").eq(regclass(schema, table)))
                .and_where(Expr::col("confrelid").eq(regclass(schema, parent)))
                .and_where(is_cascade("c", "confdeltype"))
        }
        _ => query
            .column("from")
            .from_function(Func::cust("pragma_foreign_key_list").arg(table), "list")
            .and_where(Expr::col("table").eq(parent))
            .and_where(Expr::col("from").eq(column))
            .and_where(is_cascade("CASCADE", "on_delete")),
    };
    strings(db, &query).await
}

/// What happens to a row when the row that it refers to is deleted.
#[derive(Clone, Copy)]
pub(crate) enum OnDelete {
    Cascade,
    Other,
}

/// Returns the encoding of this database, if it can't store every character.
pub(crate) async fn unsupported_encoding(
    db: &impl ConnectionTrait,
) -> Result<Option<String>, DbErr> {
    if !is_postgres(db) {
        return Ok(None);
    }
    let encoding = Func::cust("current_setting").arg("server_encoding");
    let found = strings(db, &Query::select().expr(encoding).take()).await?;
    // SQL_ASCII stores bytes without conversion, and ours are UTF-8.
    Ok(found
        .into_iter()
        .find(|encoding| !["UTF8", "SQL_ASCII"].contains(&encoding.as_str())))
}

/// Returns whether this role may read the table. A refused SELECT would abort the transaction.
pub(crate) async fn is_readable(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
    table: &str,
) -> Result<bool, DbErr> {
    let granted = Func::cust("has_table_privilege")
        .arg(qualified(schema, table))
        .arg("SELECT");
    Ok(!is_postgres(db) || is_true(db, granted).await?)
}

/// Returns whether row-level security may hide rows of the table from this role.
pub(crate) async fn may_hide_rows(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
    table: &str,
) -> Result<bool, DbErr> {
    let active = Func::cust("row_security_active").arg(qualified(schema, table));
    Ok(is_postgres(db) && is_true(db, active).await?)
}

async fn is_true(db: &impl ConnectionTrait, function: FunctionCall) -> Result<bool, DbErr> {
    let query = Query::select()
        .expr(Expr::expr(function).cast_as("text"))
        .take();
    Ok(strings(db, &query).await? == ["true"])
}

fn regclass(schema: Option<&SchemaName>, table: &str) -> FunctionCall {
    Func::cust("to_regclass").arg(qualified(schema, table))
}

/// Returns a table's name for PostgreSQL's `to_regclass`. Our names and [`SchemaName`]s need no
/// escaping.
fn qualified(schema: Option<&SchemaName>, table: &str) -> String {
    match schema {
        Some(schema) => format!(r#""{schema}"."{table}""#),
        None => format!(r#""{table}""#),
    }
}

pub(crate) fn is_postgres(db: &impl ConnectionTrait) -> bool {
    db.get_database_backend() == DbBackend::Postgres
}

/// Returns the first column of every row.
pub(crate) async fn strings(
    db: &impl ConnectionTrait,
    query: &SelectStatement,
) -> Result<Vec<String>, DbErr> {
    let rows = db.query_all(query).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}
