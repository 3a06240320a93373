//! The table that records which migrations were applied.

use sea_orm::sea_query::{
    ColumnDef, DeleteStatement, Expr, ExprTrait, InsertStatement, OnConflict, Query, Table,
    TableCreateStatement,
};

/// The table of applied migrations: our own, never a host's `seaql_migrations`.
pub const MIGRATION_TABLE: &str = "runtrail_migrations";

/// Returns the statement that creates the table, with the same columns as SeaORM's.
pub(crate) fn create_table() -> TableCreateStatement {
    Table::create()
        .table(MIGRATION_TABLE)
        .if_not_exists()
        .col(ColumnDef::new("version").string().not_null().primary_key())
        .col(ColumnDef::new("applied_at").big_integer().not_null())
        .take()
}

/// Returns the statement that records a migration; an existing record doesn't change.
pub(crate) fn insert(name: &str, applied_at: i64) -> InsertStatement {
    Query::insert()
        .into_table(MIGRATION_TABLE)
        .columns(["version", "applied_at"])
        .values_panic([name.into(), applied_at.into()])
        .on_conflict(OnConflict::column("version").do_nothing().to_owned())
        .take()
}

/// Returns the statement that deletes records.
pub(crate) fn delete(names: Vec<String>) -> DeleteStatement {
    Query::delete()
        .from_table(MIGRATION_TABLE)
        .and_where(Expr::col("version").is_in(names))
        .take()
}
