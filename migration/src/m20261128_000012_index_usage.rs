//! An index of the events with a usage, which has everything that is added up.

use sea_orm::sea_query::{ConditionalStatement, Expr, ExprTrait, Index};
use sea_orm::{Condition, DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration};

const TABLE: &str = "skill_run_logs";
const INDEX: &str = "runtrail_skill_run_logs_usage";

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000012_index_usage@0.1.0",
    change: Change::Index {
        table: TABLE,
        name: INDEX,
    },
    up,
    down,
};

#[derive(Clone, Copy, DeriveIden)]
enum SkillRunLogs {
    RunId,
    CreatedAt,
    DurationMicros,
    Provider,
    Model,
    InputTokens,
    CacheReadTokens,
    CacheWriteTokens,
    OutputTokens,
    ThinkingTokens,
    CostMicros,
}

/// An event that has one of these has a usage.
const USAGE: [SkillRunLogs; 8] = [
    SkillRunLogs::Provider,
    SkillRunLogs::Model,
    SkillRunLogs::InputTokens,
    SkillRunLogs::CacheReadTokens,
    SkillRunLogs::CacheWriteTokens,
    SkillRunLogs::OutputTokens,
    SkillRunLogs::ThinkingTokens,
    SkillRunLogs::CostMicros,
];

fn up(backend: DbBackend) -> Vec<Statement> {
    // call_statistics, usage_by_model. They read only the index, and so none of the payloads.
    let mut index = Index::create()
        .if_not_exists()
        .name(INDEX)
        .table(TABLE)
        .col(SkillRunLogs::RunId)
        .col(SkillRunLogs::CreatedAt)
        .col(SkillRunLogs::DurationMicros)
        .take();
    let mut has_usage = Condition::any();
    for column in USAGE {
        index.col(column);
        has_usage = has_usage.add(Expr::col(column).is_not_null());
    }
    vec![backend.build(index.cond_where(has_usage))]
}

fn down(backend: DbBackend) -> Vec<Statement> {
    vec![backend.build(Index::drop().if_exists().name(INDEX).table(TABLE))]
}
