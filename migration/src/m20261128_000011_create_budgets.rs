//! The table of budgets.

use sea_orm::sea_query::{self, ColumnDef};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration, identifier};

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000011_create_budgets@0.1.0",
    change: Change::Table {
        name: "runtrail_budgets",
        columns: &[
            "name",
            "unit",
            "amount_limit",
            "scope",
            "scope_id",
            "period",
            "period_micros",
        ],
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum RuntrailBudgets {
    Table,
    Name,
    Unit,
    AmountLimit,
    Scope,
    ScopeId,
    Period,
    PeriodMicros,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    use RuntrailBudgets::*;

    let number = |column| ColumnDef::new(column).big_integer().not_null().take();
    let text = |column| identifier(backend, column).not_null().take();
    let table = sea_query::Table::create()
        .if_not_exists()
        .table(Table)
        .col(text(Name).primary_key())
        .col(text(Unit))
        .col(number(AmountLimit))
        .col(text(Scope))
        .col(text(ScopeId))
        .col(text(Period))
        .col(number(PeriodMicros))
        .take();
    vec![backend.build(&table)]
}

fn down(backend: DbBackend) -> Vec<Statement> {
    let table = RuntrailBudgets::Table;
    vec![backend.build(sea_query::Table::drop().if_exists().table(table))]
}
