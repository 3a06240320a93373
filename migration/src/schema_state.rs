use std::fmt;

use sea_orm::sea_query::Query;
use sea_orm::{ConnectionTrait, DbErr};

use crate::catalog::{columns, is_readable, strings, unsupported_encoding};
use crate::schema_migration::{Makes, SchemaMigration, is_compatible};
use crate::shape::{Completeness, Shape};
use crate::{MIGRATION_TABLE, NAME_PREFIX, SchemaName};

/// Where a database stands, seen from this version of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaState {
    /// None of our tables is there.
    Missing,
    /// Ours, but older than this version.
    Outdated {
        /// Migrations still to be applied.
        pending: Vec<String>,
    },
    /// Just what this version needs.
    Current,
    /// Ours, but newer than this version.
    TooNew {
        /// Applied migrations that this version doesn't know.
        unknown: Vec<String>,
    },
    /// A table with one of our names belongs to something else.
    Foreign {
        /// The table.
        table: String,
        /// Columns that it would have if it were ours.
        missing: Vec<String>,
    },
    /// A table that our migrations haven't created lacks parts that can't be added.
    Incomplete {
        /// The table.
        table: String,
        /// What it lacks.
        lacks: Vec<String>,
    },
    /// The PostgreSQL database has an encoding that can't hold every character.
    UnsupportedEncoding {
        /// The encoding, as PostgreSQL names it.
        encoding: String,
    },
}

impl fmt::Display for SchemaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the database has no Runtrail tables"),
            Self::Outdated { pending } => {
                write!(
                    f,
                    "the Runtrail schema is older than this version: pending {}",
                    pending.join(", ")
                )
            }
            Self::Current => f.write_str("the Runtrail schema is up to date"),
            Self::TooNew { unknown } => {
                write!(
                    f,
                    "the Runtrail schema is newer than this version: it has {}",
                    unknown.join(", ")
                )
            }
            Self::Foreign { table, missing } => {
                write!(
                    f,
                    "table {table} is not Runtrail's: it has no column {}",
                    missing.join(", ")
                )
            }
            Self::Incomplete { table, lacks } => {
                write!(f, "table {table} lacks {}", lacks.join(" and "))
            }
            Self::UnsupportedEncoding { encoding } => {
                write!(
                    f,
                    "the database has the encoding {encoding}, which can't hold every character: use one with UTF8"
                )
            }
        }
    }
}

/// Whether to look for the keys, indexes and collations of tables that our migrations have made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// The records of the migrations are enough.
    Recorded,
    /// Somebody may have dropped one, or restored only a part of a dump.
    Checked,
}

/// Migration tables that may hold records of ours: our own, and the one of a host that has composed us.
///
/// A host's table with a name of its own can't be known; then the tables themselves have to tell.
const MIGRATION_TABLES: [&str; 2] = [MIGRATION_TABLE, "seaql_migrations"];

impl SchemaState {
    /// Looks, with reading queries only and no right to change the schema needed.
    ///
    /// Without a schema name, tables are looked up where the connection's own queries would find them.
    pub(crate) async fn inspect(
        db: &impl ConnectionTrait,
        schema: Option<&SchemaName>,
        migrations: &[SchemaMigration],
        parts: Parts,
    ) -> Result<Self, DbErr> {
        if let Some(encoding) = unsupported_encoding(db).await? {
            return Ok(Self::UnsupportedEncoding { encoding });
        }
        let recorded = recorded(db, schema).await?;
        let mut unknown = unknown_to(migrations, &recorded);
        unknown.retain(|name| !is_compatible(name, VERSION));
        if !unknown.is_empty() {
            return Ok(Self::TooNew { unknown });
        }

        let has_record =
            |migration: &SchemaMigration| recorded.iter().any(|name| name == migration.name);
        // A host's schema sync may have created tables that no migration is recorded for. A database that is yet to
        // be migrated lacks parts that its next migrations add.
        let is_by_parts =
            recorded.is_empty() || parts == Parts::Checked && migrations.iter().all(has_record);
        let mut pending = Vec::new();
        let mut has_tables = false;
        for migration in migrations {
            let makes = &migration.makes;
            if let Some(foreign) = makes.foreign_table(db, schema).await? {
                return Ok(foreign);
            }
            let mut is_applied = makes.is_there(db, schema).await?;
            has_tables |= is_applied && matches!(makes, Makes::Table { .. });
            if let Makes::Table { name, .. } = makes
                && let Some(shape) = Shape::of(name)
                && is_applied
                && is_by_parts
            {
                match shape.completeness(db, schema).await? {
                    Completeness::Unfit(state) => return Ok(state),
                    completeness => is_applied = matches!(completeness, Completeness::Complete),
                }
            }
            if !is_applied || !(recorded.is_empty() || has_record(migration)) {
                pending.push(migration.name.to_owned());
            }
        }
        Ok(match pending.len() {
            0 => Self::Current,
            _ if has_tables => Self::Outdated { pending },
            _ => Self::Missing,
        })
    }
}

/// The version of this library, in whose terms a migration says what it is compatible with.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// All recorded migrations of ours, whoever has applied them.
pub(crate) async fn recorded(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
) -> Result<Vec<String>, DbErr> {
    let mut recorded = Vec::new();
    for table in MIGRATION_TABLES {
        recorded.extend(recorded_in(db, schema, table).await?);
    }
    Ok(recorded)
}

/// The recorded migrations that aren't among these.
pub(crate) fn unknown_to(migrations: &[SchemaMigration], recorded: &[String]) -> Vec<String> {
    let is_unknown = |name: &&String| migrations.iter().all(|known| known.name != name.as_str());
    recorded.iter().filter(is_unknown).cloned().collect()
}

/// The names of our migrations in a migration table; none where it isn't there or may not be read.
pub(crate) async fn recorded_in(
    db: &impl ConnectionTrait,
    schema: Option<&SchemaName>,
    table: &'static str,
) -> Result<Vec<String>, DbErr> {
    let has_version = columns(db, schema, table)
        .await?
        .iter()
        .any(|column| column == "version");
    if !has_version || !is_readable(db, schema, table).await? {
        return Ok(Vec::new());
    }
    let mut query = Query::select();
    query
        .column("version")
        .order_by("version", sea_orm::Order::Asc);
    match schema {
        Some(schema) => query.from((schema.as_str().to_owned(), table)),
        None => query.from(table),
    };
    let names: Vec<String> = strings(db, &query).await?;
    Ok(names
        .into_iter()
        .filter(|name| name.starts_with(NAME_PREFIX))
        .collect())
}
