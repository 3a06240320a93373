use sea_orm::sea_query::{ColumnDef, Condition, Expr, ExprTrait, Query, Table};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Iden, Statement};

use crate::shape::{Completeness, Shape};
use crate::{Error, Result, SchemaName, SchemaState, catalog};

/// A migration as data: what it makes, and the statements that make and unmake it.
///
/// Every statement can be repeated (`IF NOT EXISTS`), since a database may be migrated by a host's migrator
/// first and by ours later, or the other way round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchemaMigration {
    /// Begins with [`NAME_PREFIX`](crate::NAME_PREFIX). One that older versions of the library can live with ends with
    /// the oldest of them, such as `@0.1.0` ([`is_compatible`]).
    pub(crate) name: &'static str,
    pub(crate) makes: Makes,
    /// What it does beside that, or all of it for a table.
    pub(crate) up: fn(DbBackend) -> Vec<Statement>,
    /// Undoes [`up`](Self::up).
    pub(crate) down: fn(DbBackend) -> Vec<Statement>,
}

/// What a migration makes. A database without records shows by this whether it was applied.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Makes {
    /// A table, which [`SchemaMigration::up`] creates.
    Table {
        name: &'static str,
        /// The columns that tell this table from a host's table with the same name.
        columns: &'static [&'static str],
    },
    /// Nullable columns of a table of ours. SQLite can't add a column only if it is missing, so they aren't in
    /// [`SchemaMigration::up`].
    Columns {
        table: &'static str,
        names: &'static [&'static str],
        definition: fn(DbBackend, &'static str) -> ColumnDef,
    },
    /// An index of a table of ours, which [`SchemaMigration::up`] creates.
    Index {
        table: &'static str,
        name: &'static str,
    },
    /// Changed data of a table of ours: only a record shows that.
    Data { table: &'static str },
}

impl Makes {
    /// The table that it makes or changes.
    pub(crate) fn table(&self) -> &'static str {
        match self {
            Self::Table { name, .. } => name,
            Self::Columns { table, .. } | Self::Index { table, .. } | Self::Data { table } => table,
        }
    }

    /// Whether it is there, as far as the database shows it.
    pub(crate) async fn is_there(
        &self,
        db: &impl ConnectionTrait,
        schema: Option<&SchemaName>,
    ) -> Result<bool, DbErr> {
        let table = self.table();
        Ok(match self {
            Self::Index { name, .. } => {
                let indexes = catalog::indexes(db, schema, table).await?;
                indexes.iter().any(|index| index == name)
            }
            Self::Table { .. } | Self::Data { .. } => {
                !catalog::columns(db, schema, table).await?.is_empty()
            }
            Self::Columns { .. } => {
                let found = catalog::columns(db, schema, table).await?;
                self.missing_from(&found).is_empty()
            }
        })
    }

    /// Its columns that aren't among these.
    fn missing_from(&self, found: &[String]) -> Vec<&'static str> {
        let (Self::Table { columns, .. } | Self::Columns { names: columns, .. }) = self else {
            return Vec::new();
        };
        let is_missing = |column: &&str| !found.iter().any(|name| name == column);
        columns.iter().copied().filter(is_missing).collect()
    }

    /// Its table, if that is there and somebody else's.
    pub(crate) async fn foreign_table(
        &self,
        db: &impl ConnectionTrait,
        schema: Option<&SchemaName>,
    ) -> Result<Option<SchemaState>, DbErr> {
        let Self::Table { name, .. } = self else {
            return Ok(None);
        };
        let found = catalog::columns(db, schema, name).await?;
        let missing = self.missing_from(&found);
        let is_foreign = !found.is_empty() && !missing.is_empty();
        Ok(is_foreign.then(|| SchemaState::Foreign {
            table: (*name).to_owned(),
            missing: missing.into_iter().map(str::to_owned).collect(),
        }))
    }
}

/// Whether a library of this version can read and write a schema with a migration that it doesn't know.
pub(crate) fn is_compatible(migration: &str, library: &str) -> bool {
    fn version(text: &str) -> Option<[u64; 3]> {
        let parts: Option<Vec<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    }
    // A pre-release counts as its release.
    let library = library.split(['-', '+']).next().unwrap_or(library);
    let oldest = migration
        .rsplit_once('@')
        .and_then(|(_, oldest)| version(oldest));
    oldest.is_some_and(|oldest| version(library).is_some_and(|library| oldest <= library))
}

impl SchemaMigration {
    /// Makes what the migration makes, or completes a table that was created from the entities.
    pub(crate) async fn apply(&self, db: &impl ConnectionTrait) -> Result<()> {
        self.refuse_unfit(db).await?;
        if let Makes::Columns { table, .. } = self.makes {
            let found = catalog::columns(db, None, table).await?;
            for name in self.makes.missing_from(&found) {
                if let Some(add) = self.add_column(db.get_database_backend(), name) {
                    db.execute_raw(add).await?;
                }
            }
        }
        execute(db, self.up).await?;
        match Shape::of(self.makes.table()) {
            Some(shape) if matches!(self.makes, Makes::Table { .. }) => shape.complete(db).await,
            _ => Ok(()),
        }
    }

    /// All that the migration does to a database that has had nothing of it.
    pub(crate) fn statements(&self, backend: DbBackend) -> Vec<Statement> {
        let names = match self.makes {
            Makes::Columns { names, .. } => names,
            _ => &[],
        };
        let columns = names
            .iter()
            .filter_map(|name| self.add_column(backend, name));
        columns.chain((self.up)(backend)).collect()
    }

    fn add_column(&self, backend: DbBackend, name: &'static str) -> Option<Statement> {
        let Makes::Columns {
            table, definition, ..
        } = self.makes
        else {
            return None;
        };
        let mut alter = Table::alter();
        alter.table(table).add_column(definition(backend, name));
        Some(backend.build(&alter))
    }

    /// Undoes the migration; by default only if no row is lost, and no value of a column.
    pub(crate) async fn revert(&self, db: &impl ConnectionTrait, rows: Rows) -> Result<()> {
        // Otherwise `DROP` could drop a host's table of the same name.
        if let Some(foreign) = self.makes.foreign_table(db, None).await? {
            return Err(Error::Unfit(foreign));
        }
        if rows == Rows::Refuse && self.would_lose(db).await? {
            return Err(Error::NotEmpty {
                table: self.makes.table(),
            });
        }
        execute(db, self.down).await?;
        if let Makes::Columns { table, names, .. } = self.makes {
            let found = catalog::columns(db, None, table).await?;
            for name in names {
                if found.iter().any(|column| column == name) {
                    let mut alter = Table::alter();
                    alter.table(table).drop_column(*name);
                    db.execute(&alter).await?;
                }
            }
        }
        Ok(())
    }

    /// `IF NOT EXISTS` would accept a host's table of the same name.
    async fn refuse_unfit(&self, db: &impl ConnectionTrait) -> Result<()> {
        if let Some(encoding) = catalog::unsupported_encoding(db).await? {
            return Err(Error::Unfit(SchemaState::UnsupportedEncoding { encoding }));
        }
        if let Some(foreign) = self.makes.foreign_table(db, None).await? {
            return Err(Error::Unfit(foreign));
        }
        if let Some(shape) = Shape::of(self.makes.table())
            && self.makes.is_there(db, None).await?
            && let Completeness::Unfit(state) = shape.completeness(db, None).await?
        {
            return Err(Error::Unfit(state));
        }
        Ok(())
    }

    /// Whether a row would go with its table, or a value with its column.
    async fn would_lose(&self, db: &impl ConnectionTrait) -> Result<bool> {
        let mut query = Query::select();
        query.expr(Expr::val(1)).from(self.makes.table()).limit(1);
        match self.makes {
            Makes::Index { .. } | Makes::Data { .. } => return Ok(false),
            _ if !self.makes.is_there(db, None).await? => return Ok(false),
            Makes::Table { .. } => {}
            Makes::Columns { names, .. } => {
                let mut any = Condition::any();
                for name in names {
                    any = any.add(Expr::col(*name).is_not_null());
                }
                query.cond_where(any);
            }
        }
        if catalog::is_postgres(db) {
            // Otherwise DROP would delete what was written after the check. SQLite has one writer.
            let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.makes.table());
            #[expect(
                clippy::disallowed_methods,
                reason = "the query builder has no LOCK TABLE"
            )]
            let lock = Statement::from_string(DbBackend::Postgres, lock);
            db.execute_raw(lock).await?;
        }
        Ok(!db.query_all(&query).await?.is_empty())
    }
}

/// Whether to drop a table that has rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rows {
    #[default]
    Refuse,
    Delete,
}

async fn execute(
    db: &impl ConnectionTrait,
    statements: fn(DbBackend) -> Vec<Statement>,
) -> Result<()> {
    for statement in statements(db.get_database_backend()) {
        db.execute_raw(statement).await?;
    }
    Ok(())
}

/// A column of short text that compares by bytes on both backends.
pub(crate) fn identifier(backend: DbBackend, column: impl Iden + 'static) -> ColumnDef {
    let mut definition = ColumnDef::new(column);
    definition.text();
    if backend == DbBackend::Postgres {
        definition.extra(r#"COLLATE "C""#);
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_says_which_older_libraries_can_live_with_it() {
        for (migration, library, expected) in [
            ("runtrail_m1_add@0.1.0", "0.1.0", true),
            ("runtrail_m1_add@0.1.0", "0.10.0", true),
            ("runtrail_m1_add@0.2.0", "0.1.9", false),
            ("runtrail_m1_add@1.0.0", "0.9.0", false),
            ("runtrail_m1_add@0.1.0", "0.2.0-rc.1", true),
            ("runtrail_m1_add@0.1.0.x", "9.0.0", false),
            // Nothing is said, or nothing that can be read.
            ("runtrail_m1_add", "9.0.0", false),
            ("runtrail_m1_add@", "9.0.0", false),
            ("runtrail_m1_add@0.1", "9.0.0", false),
            ("runtrail_m1_add@0.1.0.0", "9.0.0", false),
        ] {
            assert_eq!(
                is_compatible(migration, library),
                expected,
                "{migration} {library}"
            );
        }
    }
}
