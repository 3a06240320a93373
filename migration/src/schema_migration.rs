use async_trait::async_trait;
use sea_orm::sea_query::ColumnDef;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Iden, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::schema_state::{self, SchemaState};

/// A migration as data: what it makes, and the statements that make and unmake it.
///
/// Every statement can be repeated (`IF NOT EXISTS`), since a database may be migrated by a host's migrator
/// first and by ours later, or the other way round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchemaMigration {
    pub(crate) name: &'static str,
    /// The table that it makes.
    pub(crate) table: &'static str,
    /// The columns that tell this table from a host's table with the same name.
    pub(crate) columns: &'static [&'static str],
    pub(crate) up: fn(DbBackend) -> Vec<Statement>,
    pub(crate) down: fn(DbBackend) -> Vec<Statement>,
}

impl SchemaMigration {
    /// `IF NOT EXISTS` and `DROP` would take a host's table for ours.
    async fn refuse_foreign_table(&self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        match schema_state::foreign_table(manager.get_connection(), None, self).await? {
            Some(foreign) => Err(DbErr::Migration(SchemaState::from(foreign).to_string())),
            None => Ok(()),
        }
    }
}

impl MigrationName for SchemaMigration {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
impl MigrationTrait for SchemaMigration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.refuse_foreign_table(manager).await?;
        execute(manager, self.up).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.refuse_foreign_table(manager).await?;
        execute(manager, self.down).await
    }

    /// SQLite would otherwise keep the first half of a migration whose second half failed.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

async fn execute(
    manager: &SchemaManager<'_>,
    statements: fn(DbBackend) -> Vec<Statement>,
) -> Result<(), DbErr> {
    for statement in statements(manager.get_database_backend()) {
        manager.get_connection().execute_raw(statement).await?;
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
