//! The application's migrations, with Runtrail's among them.

use sea_orm_migration::prelude::*;

pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        // Runtrail's migrations come first, because the application's tables may refer to
        // Runtrail's tables, and because a step down should revert the application's last
        // migration.
        let mut all = runtrail::migration::migrations();
        all.push(Box::new(CreateTickets));
        all
    }
}

struct CreateTickets;

impl MigrationName for CreateTickets {
    fn name(&self) -> &str {
        "m20261101_000001_create_tickets"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateTickets {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tickets = Table::create()
            .table("tickets")
            .col(ColumnDef::new("run_id").text().not_null().primary_key())
            .col(ColumnDef::new("question").text().not_null())
            .take();
        manager.create_table(tickets).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table("tickets").take())
            .await
    }
}
