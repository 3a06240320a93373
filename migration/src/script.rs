use sea_orm::DbBackend;

use crate::{MIGRATIONS, SchemaName, records};

/// Returns all migrations as one SQL script, to apply by hand.
///
/// The script also records the migrations, with the time 0, so the database counts as migrated. The
/// schema is for PostgreSQL only, and must exist. Without it, the session's search path determines
/// the schema.
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
