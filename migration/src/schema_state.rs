use std::fmt;

use sea_orm::sea_query::Query;
use sea_orm::{ConnectionTrait, DbErr};

use crate::catalog::{columns, is_readable, strings, unsupported_encoding};
use crate::schema_migration::{Change, SchemaMigration, is_compatible};
use crate::shape::{Completeness, Shape};
use crate::{MIGRATION_TABLE, NAME_PREFIX, SchemaName};

/// The state of a database's schema, compared with what this version of the library needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaState {
    /// None of our tables exist.
    Missing,
    /// Our schema, but older than this version.
    Outdated {
        /// Migrations that are yet to be applied.
        pending: Vec<String>,
    },
    /// Exactly what this version needs.
    Current,
    /// Our schema, but newer than this version.
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
    /// A table lacks a key. Something other than our migrations has created or changed the table.
    Incomplete {
        /// The table.
        table: String,
        /// The missing keys.
        missing: Vec<String>,
    },
    /// The PostgreSQL database has an encoding that can't store every character.
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
                    "the Runtrail schema is older than this version: it lacks {}",
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
            Self::Incomplete { table, missing } => {
                write!(f, "table {table} lacks {}", missing.join(" and "))
            }
            Self::UnsupportedEncoding { encoding } => {
                write!(
                    f,
                    "the database has the encoding {encoding}, which can't store every \
                    character: use a database with UTF8"
                )
            }
        }
    }
}

/// Whether to check the keys, indexes and collations of tables that our migrations have created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartCheck {
    /// Trusts the records of the migrations.
    Skip,
    /// Detects parts that were dropped, or that are missing from a restored dump.
    Run,
}

/// Migration tables that may contain our records: our own, and SeaORM's default, for a host that
/// has added our migrations to its own.
///
/// A host may use another name, which we can't know. The tables themselves then show what was
/// applied.
const MIGRATION_TABLES: [&str; 2] = [MIGRATION_TABLE, "seaql_migrations"];

impl SchemaState {
    /// Inspects the schema. Only reads, and needs no privilege to change the schema.
    ///
    /// Without a schema name, tables are looked up where the connection's own queries would find
    /// them.
    pub(crate) async fn inspect(
        db: &impl ConnectionTrait,
        schema: Option<&SchemaName>,
        migrations: &[SchemaMigration],
        parts: PartCheck,
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
        // Without records, a host's schema sync may have created the tables. Pending migrations
        // may add the missing parts.
        let checks_parts =
            recorded.is_empty() || parts == PartCheck::Run && migrations.iter().all(has_record);
        let mut pending = Vec::new();
        let mut has_tables = false;
        for migration in migrations {
            let change = &migration.change;
            if let Some(foreign) = change.foreign_table(db, schema).await? {
                return Ok(foreign);
            }
            let mut is_applied = change.exists(db, schema).await?;
            has_tables |= is_applied && matches!(change, Change::Table { .. });
            if let Change::Table { name, .. } = change
                && let Some(shape) = Shape::of(name)
                && is_applied
                && checks_parts
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

/// The version of this library, to compare with the oldest version in the name of a compatible
/// migration.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns all recorded migrations of ours, whether our migrator or a host's has applied them.
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

/// Returns the recorded migrations that aren't among these.
pub(crate) fn unknown_to(migrations: &[SchemaMigration], recorded: &[String]) -> Vec<String> {
    let is_unknown = |name: &&String| migrations.iter().all(|known| known.name != name.as_str());
    recorded.iter().filter(is_unknown).cloned().collect()
}

/// Returns the names of our migrations in a migration table; none if it doesn't exist or isn't
/// readable.
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
