//! The table of runs, with the indexes that its queries need.

use sea_orm::sea_query::{
    ColumnDef, ConditionalStatement, Expr, ExprTrait, Index, IndexCreateStatement, Table,
};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration, identifier};

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261124_000001_create_skill_runs",
    change: Change::Table {
        name: "skill_runs",
        columns: &[
            "id",
            "skill_id",
            "caller_id",
            "channel_id",
            "parent_run_id",
            "started_at",
            "finished_at",
            "status",
            "tool_calls",
            "runtime_seconds",
            "total_input_tokens",
            "total_output_tokens",
            "total_thinking_tokens",
            "inputs",
            "output",
            "error",
        ],
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum SkillRuns {
    Table,
    Id,
    SkillId,
    CallerId,
    ChannelId,
    ParentRunId,
    StartedAt,
    FinishedAt,
    Status,
    ToolCalls,
    RuntimeSeconds,
    TotalInputTokens,
    TotalOutputTokens,
    TotalThinkingTokens,
    Inputs,
    Output,
    Error,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    let table = Table::create()
        .if_not_exists()
        .table(SkillRuns::Table)
        .col(identifier(backend, SkillRuns::Id).not_null().primary_key())
        .col(identifier(backend, SkillRuns::SkillId).not_null())
        .col(identifier(backend, SkillRuns::CallerId).not_null())
        .col(identifier(backend, SkillRuns::ChannelId).not_null())
        // No foreign key: a child may be recorded before its parent, and outlive it.
        .col(identifier(backend, SkillRuns::ParentRunId))
        .col(
            ColumnDef::new(SkillRuns::StartedAt)
                .big_integer()
                .not_null(),
        )
        .col(ColumnDef::new(SkillRuns::FinishedAt).big_integer())
        .col(identifier(backend, SkillRuns::Status).not_null())
        .col(
            ColumnDef::new(SkillRuns::ToolCalls)
                .big_integer()
                .not_null(),
        )
        .col(
            ColumnDef::new(SkillRuns::RuntimeSeconds)
                .double()
                .not_null(),
        )
        .col(
            ColumnDef::new(SkillRuns::TotalInputTokens)
                .big_integer()
                .not_null(),
        )
        .col(
            ColumnDef::new(SkillRuns::TotalOutputTokens)
                .big_integer()
                .not_null(),
        )
        .col(
            ColumnDef::new(SkillRuns::TotalThinkingTokens)
                .big_integer()
                .not_null(),
        )
        // The long texts are last, so that the short columns are always on the first page of a row.
        .col(ColumnDef::new(SkillRuns::Inputs).text().not_null())
        .col(ColumnDef::new(SkillRuns::Output).text().not_null())
        .col(ColumnDef::new(SkillRuns::Error).text().not_null())
        .take();

    let by_start_within = |name: &'static str, column: SkillRuns| -> IndexCreateStatement {
        Index::create()
            .if_not_exists()
            .name(name)
            .table(SkillRuns::Table)
            .col(column)
            .col(SkillRuns::StartedAt)
            .take()
    };
    let indexes = [
        // list_runs_by_skill, list_runs_by_skill_paginated, count_runs_by_skill, last_run_by_skills
        by_start_within("runtrail_skill_runs_by_skill", SkillRuns::SkillId),
        // list_runs_by_caller
        by_start_within("runtrail_skill_runs_by_caller", SkillRuns::CallerId),
        // list_runs_filtered and count_runs_filtered by channel
        by_start_within("runtrail_skill_runs_by_channel", SkillRuns::ChannelId),
        // list_children_by_parent; list_runs_filtered and count_runs_filtered of top-level runs
        by_start_within("runtrail_skill_runs_by_parent", SkillRuns::ParentRunId),
        // list_runs_filtered and count_runs_filtered by status
        by_start_within("runtrail_skill_runs_by_status", SkillRuns::Status),
        // list_runs_filtered and count_runs_filtered by time alone
        Index::create()
            .if_not_exists()
            .name("runtrail_skill_runs_by_start")
            .table(SkillRuns::Table)
            .col(SkillRuns::StartedAt)
            .take(),
        // purge_older_than, list_finished_runs_before. With the id, a purge continues where its
        // previous batch ended, even among a million runs that finished in the same microsecond.
        Index::create()
            .if_not_exists()
            .name("runtrail_skill_runs_by_finish")
            .table(SkillRuns::Table)
            .col(SkillRuns::FinishedAt)
            .col(SkillRuns::Id)
            .and_where(Expr::col(SkillRuns::FinishedAt).is_not_null())
            .take(),
    ];

    std::iter::once(backend.build(&table))
        .chain(indexes.iter().map(|index| backend.build(index)))
        .collect()
}

fn down(backend: DbBackend) -> Vec<Statement> {
    vec![backend.build(Table::drop().if_exists().table(SkillRuns::Table))]
}
