//! The owner of a run.

use sea_orm::sea_query::Alias;

use crate::schema_migration::{Change, SchemaMigration, identifier};

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000006_add_owner@0.1.0",
    change: Change::Columns {
        table: "skill_runs",
        names: &["owner_id"],
        // No foreign key: a run may be recorded before the first heartbeat of its owner.
        definition: |backend, name| identifier(backend, Alias::new(name)),
    },
    up: |_| Vec::new(),
    down: |_| Vec::new(),
};
