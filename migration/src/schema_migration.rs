use sea_orm::sea_query::{ColumnDef, Condition, Expr, ExprTrait, Query, Table};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Iden, Statement};

use crate::shape::{Completeness, Shape};
use crate::{Error, Result, SchemaName, SchemaState, catalog};

/// A migration as data: its change, and the statements that apply and revert it.
///
/// Every statement can be repeated (`IF NOT EXISTS`), since a host's migrator may migrate a
/// database first, and ours later, or the other way round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchemaMigration {
    /// Begins with [`NAME_PREFIX`](crate::NAME_PREFIX). If older versions of the library can use
    /// the changed schema, ends with the oldest of them, such as `@0.1.0` ([`is_compatible`]).
    pub(crate) name: &'static str,
    pub(crate) change: Change,
    /// All statements, except those that add [`Change::Columns`].
    pub(crate) up: fn(DbBackend) -> Vec<Statement>,
    /// Reverts [`up`](Self::up).
    pub(crate) down: fn(DbBackend) -> Vec<Statement>,
}

/// What a migration changes. In a database without records, it shows whether the migration was
/// applied.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// A table, which [`SchemaMigration::up`] creates.
    Table {
        name: &'static str,
        /// The columns that distinguish this table from a host's table with the same name.
        columns: &'static [&'static str],
    },
    /// Nullable columns of one of our tables. They aren't in [`SchemaMigration::up`], since SQLite
    /// has no `ADD COLUMN IF NOT EXISTS`.
    Columns {
        table: &'static str,
        names: &'static [&'static str],
        definition: fn(DbBackend, &'static str) -> ColumnDef,
    },
    /// An index of one of our tables, which [`SchemaMigration::up`] creates.
    Index {
        table: &'static str,
        name: &'static str,
    },
    /// Triggers that [`SchemaMigration::up`] creates, and creates again if one of them was lost.
    Triggers {
        /// The table that they are about.
        table: &'static str,
        /// The table that each trigger belongs to, and its name.
        triggers: &'static [(&'static str, &'static str)],
    },
    /// Data of one of our tables. Only a record shows whether it was changed.
    Data { table: &'static str },
}

impl Change {
    /// Returns the table that is created or changed.
    pub(crate) fn table(&self) -> &'static str {
        match self {
            Self::Table { name, .. } => name,
            Self::Columns { table, .. }
            | Self::Index { table, .. }
            | Self::Triggers { table, .. }
            | Self::Data { table } => table,
        }
    }

    /// Returns whether the change was made, as far as the database shows it.
    pub(crate) async fn exists(
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
            Self::Triggers { triggers, .. } => {
                for (table, name) in *triggers {
                    let found = catalog::triggers(db, schema, table).await?;
                    if !found.iter().any(|trigger| trigger == name) {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Table { .. } | Self::Data { .. } => {
                !catalog::columns(db, schema, table).await?.is_empty()
            }
            Self::Columns { .. } => {
                let found = catalog::columns(db, schema, table).await?;
                self.missing_columns(&found).is_empty()
            }
        })
    }

    /// Returns the columns of this change that aren't among these.
    fn missing_columns(&self, found: &[String]) -> Vec<&'static str> {
        let (Self::Table { columns, .. } | Self::Columns { names: columns, .. }) = self else {
            return Vec::new();
        };
        let is_missing = |column: &&str| !found.iter().any(|name| name == column);
        columns.iter().copied().filter(is_missing).collect()
    }

    /// Returns [`SchemaState::Foreign`] if the table exists and isn't ours.
    pub(crate) async fn foreign_table(
        &self,
        db: &impl ConnectionTrait,
        schema: Option<&SchemaName>,
    ) -> Result<Option<SchemaState>, DbErr> {
        let Self::Table { name, .. } = self else {
            return Ok(None);
        };
        let found = catalog::columns(db, schema, name).await?;
        let missing = self.missing_columns(&found);
        let is_foreign = !found.is_empty() && !missing.is_empty();
        Ok(is_foreign.then(|| SchemaState::Foreign {
            table: (*name).to_owned(),
            missing: missing.into_iter().map(str::to_owned).collect(),
        }))
    }
}

/// Returns whether this version of the library can read and write a schema with a migration that it
/// doesn't know.
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
    /// Applies the migration, or completes a table that was created from the entities.
    pub(crate) async fn apply(&self, db: &impl ConnectionTrait) -> Result<()> {
        self.verify_fitness(db).await?;
        if let Change::Columns { table, .. } = self.change {
            let found = catalog::columns(db, None, table).await?;
            for name in self.change.missing_columns(&found) {
                if let Some(add) = self.add_column(db.get_database_backend(), name) {
                    db.execute_raw(add).await?;
                }
            }
        }
        execute(db, self.up).await?;
        match Shape::of(self.change.table()) {
            Some(shape) if matches!(self.change, Change::Table { .. }) => shape.complete(db).await,
            _ => Ok(()),
        }
    }

    /// Returns all statements of the migration, for a database to which it hasn't been applied.
    pub(crate) fn statements(&self, backend: DbBackend) -> Vec<Statement> {
        let names = match self.change {
            Change::Columns { names, .. } => names,
            _ => &[],
        };
        let columns = names
            .iter()
            .filter_map(|name| self.add_column(backend, name));
        columns.chain((self.up)(backend)).collect()
    }

    fn add_column(&self, backend: DbBackend, name: &'static str) -> Option<Statement> {
        let Change::Columns {
            table, definition, ..
        } = self.change
        else {
            return None;
        };
        let mut alter = Table::alter();
        alter.table(table).add_column(definition(backend, name));
        Some(backend.build(&alter))
    }

    /// Reverts the migration; with [`Rows::Refuse`], only if no row or column value is lost.
    pub(crate) async fn revert(&self, db: &impl ConnectionTrait, rows: Rows) -> Result<()> {
        // Otherwise `DROP` could drop a host's table of the same name.
        if let Some(foreign) = self.change.foreign_table(db, None).await? {
            return Err(Error::Unfit(foreign));
        }
        if rows == Rows::Refuse && self.would_lose_data(db).await? {
            return Err(Error::NotEmpty {
                table: self.change.table(),
            });
        }
        execute(db, self.down).await?;
        if let Change::Columns { table, names, .. } = self.change {
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

    /// Fails on a database that the migration can't be applied to. `IF NOT EXISTS` would accept a
    /// host's table of the same name.
    async fn verify_fitness(&self, db: &impl ConnectionTrait) -> Result<()> {
        if let Some(encoding) = catalog::unsupported_encoding(db).await? {
            return Err(Error::Unfit(SchemaState::UnsupportedEncoding { encoding }));
        }
        if let Some(foreign) = self.change.foreign_table(db, None).await? {
            return Err(Error::Unfit(foreign));
        }
        if let Some(shape) = Shape::of(self.change.table())
            && self.change.exists(db, None).await?
            && let Completeness::Unfit(state) = shape.completeness(db, None).await?
        {
            return Err(Error::Unfit(state));
        }
        Ok(())
    }

    /// Returns whether reverting would delete a row with its table, or a value with its column.
    async fn would_lose_data(&self, db: &impl ConnectionTrait) -> Result<bool> {
        let mut query = Query::select();
        query.expr(Expr::val(1)).from(self.change.table()).limit(1);
        match self.change {
            Change::Index { .. } | Change::Triggers { .. } | Change::Data { .. } => {
                return Ok(false);
            }
            _ if !self.change.exists(db, None).await? => return Ok(false),
            Change::Table { .. } => {}
            Change::Columns { names, .. } => {
                let mut any = Condition::any();
                for name in names {
                    any = any.add(Expr::col(*name).is_not_null());
                }
                query.cond_where(any);
            }
        }
        if catalog::is_postgres(db) {
            // Otherwise DROP could delete rows that are written after the check. SQLite has only
            // one writer.
            let lock = format!(
                "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
                self.change.table()
            );
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

/// Returns a column of short text that compares by bytes on both backends.
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
    fn a_migration_names_the_oldest_compatible_library() {
        for (migration, library, expected) in [
            ("runtrail_m1_add@0.1.0", "0.1.0", true),
            ("runtrail_m1_add@0.1.0", "0.10.0", true),
            ("runtrail_m1_add@0.2.0", "0.1.9", false),
            ("runtrail_m1_add@1.0.0", "0.9.0", false),
            ("runtrail_m1_add@0.1.0", "0.2.0-rc.1", true),
            ("runtrail_m1_add@0.1.0.x", "9.0.0", false),
            // No version, or one that can't be parsed.
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
