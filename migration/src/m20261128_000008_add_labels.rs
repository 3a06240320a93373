//! The labels of a run.

use sea_orm::sea_query::{Alias, ColumnDef};

use crate::schema_migration::{Change, SchemaMigration};

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000008_add_labels@0.1.0",
    change: Change::Columns {
        table: "skill_runs",
        names: &["labels"],
        definition: |_, name| ColumnDef::new(Alias::new(name)).text().take(),
    },
    up: |_| Vec::new(),
    down: |_| Vec::new(),
};
