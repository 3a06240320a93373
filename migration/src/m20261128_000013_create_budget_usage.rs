//! The table of what each budget has used and reserved, in slots of time. Triggers write it.

use sea_orm::sea_query::{self, ColumnDef, Index};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration, identifier};

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000013_create_budget_usage@0.1.0",
    change: Change::Table {
        name: "runtrail_budget_usage",
        columns: &["budget", "slot_start", "used", "reserved"],
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum RuntrailBudgetUsage {
    Table,
    Budget,
    SlotStart,
    Used,
    Reserved,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    use RuntrailBudgetUsage::*;

    let number = |column| ColumnDef::new(column).big_integer().not_null().take();
    let table = sea_query::Table::create()
        .if_not_exists()
        .table(Table)
        .col(identifier(backend, Budget).not_null())
        .col(number(SlotStart))
        .col(number(Used))
        .col(number(Reserved))
        .primary_key(Index::create().col(Budget).col(SlotStart))
        .take();
    vec![backend.build(&table)]
}

fn down(backend: DbBackend) -> Vec<Statement> {
    let table = RuntrailBudgetUsage::Table;
    vec![backend.build(sea_query::Table::drop().if_exists().table(table))]
}
