//! The table of staged records: telemetry that was received, and doesn't belong to a run yet.

use sea_orm::sea_query::{self, ColumnDef, ConditionalStatement, Expr, ExprTrait, Index};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration, identifier};

const TABLE: &str = "runtrail_staged_records";

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000010_create_staged_records@0.1.0",
    change: Change::Table {
        name: TABLE,
        columns: &[
            "group_id",
            "id",
            "parent_id",
            "kind",
            "started_at",
            "received_at",
            "run_id",
            "content",
        ],
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum RuntrailStagedRecords {
    Table,
    GroupId,
    Id,
    ParentId,
    Kind,
    StartedAt,
    ReceivedAt,
    RunId,
    Content,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    use RuntrailStagedRecords::*;

    let number = |column| ColumnDef::new(column).big_integer().not_null().take();
    let table = sea_query::Table::create()
        .if_not_exists()
        .table(Table)
        .col(identifier(backend, GroupId).not_null())
        .col(identifier(backend, Id).not_null())
        .col(identifier(backend, ParentId))
        .col(identifier(backend, Kind).not_null())
        .col(number(StartedAt))
        .col(number(ReceivedAt))
        .col(identifier(backend, RunId))
        .col(ColumnDef::new(Content).text())
        .primary_key(Index::create().col(GroupId).col(Id))
        .take();
    // waiting_groups and waiting_records.
    let waiting = Index::create()
        .if_not_exists()
        .name("runtrail_staged_records_waiting")
        .table(TABLE)
        .col(GroupId)
        .col(ReceivedAt)
        .and_where(Expr::col(RunId).is_null())
        .take();
    // forget_settled.
    let settled = Index::create()
        .if_not_exists()
        .name("runtrail_staged_records_settled")
        .table(TABLE)
        .col(ReceivedAt)
        .and_where(Expr::col(RunId).is_not_null())
        .take();
    vec![
        backend.build(&table),
        backend.build(&waiting),
        backend.build(&settled),
    ]
}

fn down(backend: DbBackend) -> Vec<Statement> {
    let table = RuntrailStagedRecords::Table;
    vec![backend.build(sea_query::Table::drop().if_exists().table(table))]
}
