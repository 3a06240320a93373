//! The table of owners: the processes that own runs.

use sea_orm::sea_query::{ColumnDef, Table};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration, identifier};

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000005_create_owners@0.1.0",
    change: Change::Table {
        name: "runtrail_owners",
        columns: &["id", "label", "lease_micros", "last_seen_at"],
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum RuntrailOwners {
    Table,
    Id,
    Label,
    LeaseMicros,
    LastSeenAt,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    let table = Table::create()
        .if_not_exists()
        .table(RuntrailOwners::Table)
        .col(
            identifier(backend, RuntrailOwners::Id)
                .not_null()
                .primary_key(),
        )
        .col(identifier(backend, RuntrailOwners::Label).not_null())
        .col(
            ColumnDef::new(RuntrailOwners::LeaseMicros)
                .big_integer()
                .not_null(),
        )
        .col(
            ColumnDef::new(RuntrailOwners::LastSeenAt)
                .big_integer()
                .not_null(),
        )
        .take();
    vec![backend.build(&table)]
}

fn down(backend: DbBackend) -> Vec<Statement> {
    vec![backend.build(Table::drop().if_exists().table(RuntrailOwners::Table))]
}
