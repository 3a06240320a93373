//! The index of the running runs that belong to an owner.

use sea_orm::sea_query::{ConditionalStatement, Expr, ExprTrait, Index};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration};

const TABLE: &str = "skill_runs";
const INDEX: &str = "runtrail_skill_runs_running_by_owner";

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000007_index_owned_runs@0.1.0",
    change: Change::Index {
        table: TABLE,
        name: INDEX,
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum SkillRuns {
    OwnerId,
    FinishedAt,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    // sweep_interrupted, and the purge of owners. A run leaves the index when it finishes.
    let index = Index::create()
        .if_not_exists()
        .name(INDEX)
        .table(TABLE)
        .col(SkillRuns::OwnerId)
        .and_where(Expr::col(SkillRuns::OwnerId).is_not_null())
        .and_where(Expr::col(SkillRuns::FinishedAt).is_null())
        .take();
    vec![backend.build(&index)]
}

fn down(backend: DbBackend) -> Vec<Statement> {
    vec![backend.build(Index::drop().if_exists().name(INDEX).table(TABLE))]
}
