use sea_orm::DbBackend;

use crate::{MIGRATIONS, SchemaName, records};

/// All migrations as one SQL script, for whoever has to apply them by hand.
///
/// A database that it was run on counts as migrated: it records what it does, with the time 0.
/// The schema, which must exist, is PostgreSQL's; without one the tables go where the session would make them.
pub fn script(backend: DbBackend, schema: Option<&SchemaName>) -> String {
    let mut lines = vec!["BEGIN;".to_owned()];
    if let (DbBackend::Postgres, Some(schema)) = (backend, schema) {
        lines.push(format!("SET LOCAL search_path = {schema};"));
    }
    lines.push(format!("{};", backend.build(&records::create_table())));
    for migration in MIGRATIONS {
        lines.push(format!("\n-- {}", migration.name));
        lines.extend(
            migration
                .statements(backend)
                .iter()
                .map(|statement| format!("{statement};")),
        );
        lines.push(format!(
            "{};",
            backend.build(&records::insert(migration.name, 0))
        ));
    }
    lines.push("\nCOMMIT;\n".to_owned());
    lines.join("\n")
}
