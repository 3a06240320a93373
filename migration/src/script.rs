use sea_orm::sea_query::OnConflict;
use sea_orm::{DbBackend, EntityTrait, QueryTrait, Schema, Set};
use sea_orm_migration::seaql_migrations;

use crate::{MIGRATION_TABLE, MIGRATIONS, SchemaName};

/// All migrations as one SQL script, for whoever has to apply them by hand.
///
/// A database that it was run on counts as migrated: it records what it does, with the time 0.
/// The schema, which must exist, is PostgreSQL's; without one the tables go where the session would make them.
pub fn script(backend: DbBackend, schema: Option<&SchemaName>) -> String {
    let migration_table = Schema::new(backend)
        .create_table_from_entity(seaql_migrations::Entity)
        .table(MIGRATION_TABLE)
        .if_not_exists()
        .take();
    let mut lines = vec!["BEGIN;".to_owned()];
    if let (DbBackend::Postgres, Some(schema)) = (backend, schema) {
        lines.push(format!("SET LOCAL search_path = {schema};"));
    }
    lines.push(format!("{};", backend.build(&migration_table)));
    for migration in MIGRATIONS {
        let mut record = seaql_migrations::Entity::insert(seaql_migrations::ActiveModel {
            version: Set(migration.name.to_owned()),
            applied_at: Set(0),
        })
        .on_conflict(
            OnConflict::column(seaql_migrations::Column::Version)
                .do_nothing()
                .to_owned(),
        )
        .into_query();
        record.into_table(MIGRATION_TABLE);
        lines.push(format!("\n-- {}", migration.name));
        lines.extend(
            (migration.up)(backend)
                .iter()
                .map(|statement| format!("{statement};")),
        );
        lines.push(format!("{};", backend.build(&record)));
    }
    lines.push("\nCOMMIT;\n".to_owned());
    lines.join("\n")
}
