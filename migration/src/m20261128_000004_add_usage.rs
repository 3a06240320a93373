//! The duration and the usage of a model or tool call.

use sea_orm::sea_query::{Alias, ColumnDef};

use crate::schema_migration::{Change, SchemaMigration, identifier};

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000004_add_usage@0.1.0",
    change: Change::Columns {
        table: "skill_run_logs",
        names: &[
            "duration_micros",
            PROVIDER,
            MODEL,
            "input_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
            "output_tokens",
            "thinking_tokens",
            "cost_micros",
        ],
        definition: |backend, name| match name {
            PROVIDER | MODEL => identifier(backend, Alias::new(name)),
            _ => ColumnDef::new(name).big_integer().take(),
        },
    },
    up: |_| Vec::new(),
    down: |_| Vec::new(),
};

const PROVIDER: &str = "provider";
const MODEL: &str = "model";
