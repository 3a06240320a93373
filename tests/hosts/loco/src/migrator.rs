use async_trait::async_trait;
use sea_orm_migration::prelude::*;

pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = runtrail::migration::migrations();
        all.push(Box::new(CreateTickets));
        all
    }
}

/// A table of the application that refers to runs.
struct CreateTickets;

impl MigrationName for CreateTickets {
    fn name(&self) -> &str {
        "m20261101_000001_create_tickets"
    }
}

#[async_trait]
impl MigrationTrait for CreateTickets {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut run = ForeignKey::create();
        run.from("tickets", "run_id").to("skill_runs", "id");
        let tickets = Table::create()
            .table("tickets")
            .col(ColumnDef::new("run_id").text().not_null().primary_key())
            .col(ColumnDef::new("question").text().not_null())
            .foreign_key(&mut run)
            .take();
        manager.create_table(tickets).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table("tickets").take())
            .await
    }
}
