use async_trait::async_trait;
use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::schema_migration::{Rows, SchemaMigration};
use crate::{Error, MIGRATIONS};

/// Returns all migrations in order, for a host's own migrator, where they precede the host's
/// migrations.
///
/// A host's table that refers to ours can only be created after it. `down` reverts the last
/// migration in the list first: if ours were last, a careless step down would target the history.
///
/// `down` refuses to drop a table that has rows. To drop a history from a host's migrator, delete
/// its rows first: `DELETE FROM skill_run_logs`, then `DELETE FROM skill_runs`.
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    MIGRATIONS
        .iter()
        .map(|migration| Box::new(*migration) as Box<dyn MigrationTrait>)
        .collect()
}

impl MigrationName for SchemaMigration {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
impl MigrationTrait for SchemaMigration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let applied = self.apply(manager.get_connection()).await;
        applied.map_err(for_host)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let reverted = self.revert(manager.get_connection(), Rows::Refuse).await;
        reverted.map_err(for_host)
    }

    /// Without a transaction, SQLite would keep the first half of a migration whose second half
    /// failed.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

fn for_host(err: Error) -> DbErr {
    match err {
        Error::Database(err) => err,
        err => DbErr::Migration(err.to_string()),
    }
}
