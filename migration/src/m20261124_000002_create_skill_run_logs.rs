//! The table of events.

use sea_orm::sea_query::{ColumnDef, ForeignKey, ForeignKeyAction, Index, Table};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration, identifier};

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261124_000002_create_skill_run_logs",
    change: Change::Table {
        name: "skill_run_logs",
        columns: &["run_id", "sequence", "created_at", "event_type", "payload"],
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum SkillRunLogs {
    Table,
    RunId,
    Sequence,
    CreatedAt,
    EventType,
    Payload,
}

#[derive(DeriveIden)]
enum SkillRuns {
    Table,
    Id,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    let table = Table::create()
        .if_not_exists()
        .table(SkillRunLogs::Table)
        .col(identifier(backend, SkillRunLogs::RunId).not_null())
        .col(
            ColumnDef::new(SkillRunLogs::Sequence)
                .big_integer()
                .not_null(),
        )
        .col(
            ColumnDef::new(SkillRunLogs::CreatedAt)
                .big_integer()
                .not_null(),
        )
        .col(identifier(backend, SkillRunLogs::EventType).not_null())
        .col(ColumnDef::new(SkillRunLogs::Payload).text().not_null())
        // append_log, list_logs_by_run, purge_older_than
        .primary_key(
            Index::create()
                .col(SkillRunLogs::RunId)
                .col(SkillRunLogs::Sequence),
        )
        // Only the key prevents PostgreSQL from storing an event whose run a concurrent purge is
        // deleting.
        .foreign_key(
            ForeignKey::create()
                .name("runtrail_skill_run_logs_run")
                .from(SkillRunLogs::Table, SkillRunLogs::RunId)
                .to(SkillRuns::Table, SkillRuns::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take();
    vec![backend.build(&table)]
}

fn down(backend: DbBackend) -> Vec<Statement> {
    vec![backend.build(Table::drop().if_exists().table(SkillRunLogs::Table))]
}
