//! The table of reservations.

use sea_orm::sea_query::{self, ColumnDef, ConditionalStatement, Expr, ExprTrait, Index};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration, identifier};

const TABLE: &str = "runtrail_budget_reservations";

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000014_create_budget_reservations@0.1.0",
    change: Change::Table {
        name: TABLE,
        columns: &[
            "id",
            "owner_id",
            "run_id",
            "caller_id",
            "skill_id",
            "channel_id",
            "tokens",
            "cost_micros",
            "reserved_at",
            "closed_at",
            "actual_tokens",
            "actual_cost_micros",
        ],
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum RuntrailBudgetReservations {
    Table,
    Id,
    OwnerId,
    RunId,
    CallerId,
    SkillId,
    ChannelId,
    Tokens,
    CostMicros,
    ReservedAt,
    ClosedAt,
    ActualTokens,
    ActualCostMicros,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    use RuntrailBudgetReservations::*;

    let number = |column| ColumnDef::new(column).big_integer().take();
    let text = |column| identifier(backend, column);
    let table = sea_query::Table::create()
        .if_not_exists()
        .table(Table)
        .col(text(Id).not_null().primary_key())
        .col(text(OwnerId))
        .col(text(RunId))
        .col(text(CallerId).not_null())
        .col(text(SkillId).not_null())
        .col(text(ChannelId).not_null())
        .col(number(Tokens).not_null())
        .col(number(CostMicros).not_null())
        .col(number(ReservedAt).not_null())
        .col(number(ClosedAt))
        .col(number(ActualTokens))
        .col(number(ActualCostMicros))
        .take();
    // sweep_interrupted.
    let open = Index::create()
        .if_not_exists()
        .name("runtrail_budget_reservations_open")
        .table(TABLE)
        .col(OwnerId)
        .and_where(Expr::col(ClosedAt).is_null())
        .take();
    // A purge.
    let closed = Index::create()
        .if_not_exists()
        .name("runtrail_budget_reservations_closed")
        .table(TABLE)
        .col(ClosedAt)
        .and_where(Expr::col(ClosedAt).is_not_null())
        .take();
    vec![
        backend.build(&table),
        backend.build(&open),
        backend.build(&closed),
    ]
}

fn down(backend: DbBackend) -> Vec<Statement> {
    let table = RuntrailBudgetReservations::Table;
    vec![backend.build(sea_query::Table::drop().if_exists().table(table))]
}
