//! An index of the dry runs.

use sea_orm::sea_query::{ConditionalStatement, Expr, ExprTrait, Index};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration};

const TABLE: &str = "skill_runs";
const INDEX: &str = "runtrail_skill_runs_dry";

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261127_000003_index_dry_runs@0.1.0",
    change: Change::Index {
        table: TABLE,
        name: INDEX,
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum SkillRuns {
    SkillId,
    CallerId,
    ChannelId,
    ParentRunId,
    StartedAt,
    Status,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    // count_runs_by_skill, count_runs_filtered: they subtract the dry runs. The index has every
    // column that these filters are about.
    let index = Index::create()
        .if_not_exists()
        .name(INDEX)
        .table(TABLE)
        .col(SkillRuns::SkillId)
        .col(SkillRuns::CallerId)
        .col(SkillRuns::ChannelId)
        .col(SkillRuns::ParentRunId)
        .col(SkillRuns::StartedAt)
        .and_where(Expr::col(SkillRuns::Status).eq(Expr::Constant("dry_run".into())))
        .take();
    vec![backend.build(&index)]
}

fn down(backend: DbBackend) -> Vec<Statement> {
    vec![backend.build(Index::drop().if_exists().name(INDEX).table(TABLE))]
}
