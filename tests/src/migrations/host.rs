use async_trait::async_trait;
use runtrail_audit::{ErrorKind, Storage};
use runtrail_migration::{Migrator, SchemaState};
use runtrail_store::AuditStore;
use sea_orm::DatabaseConnection;
use sea_orm_migration::prelude::*;

use crate::fixture::{count, *};

/// A host's migration, with the name of every new project's first migration.
struct CreateHostTable;

impl MigrationName for CreateHostTable {
    fn name(&self) -> &str {
        "m20220101_000001_create_table"
    }
}

#[async_trait]
impl MigrationTrait for CreateHostTable {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("host_things")
            .col(ColumnDef::new("id").integer().not_null().primary_key())
            .take();
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table("host_things").take())
            .await
    }
}

/// A host without our migrations.
struct Host;

impl MigratorTrait for Host {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateHostTable)]
    }
}

/// A host with our migrations in its own migrator.
pub(super) struct ComposedHost;

impl MigratorTrait for ComposedHost {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = runtrail_migration::migrations();
        all.extend(Host::migrations());
        all
    }
}

/// A host's table that references runs, so it can only be created after ours.
struct CreateTickets;

impl MigrationName for CreateTickets {
    fn name(&self) -> &str {
        "m20220201_000001_create_tickets"
    }
}

#[async_trait]
impl MigrationTrait for CreateTickets {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut run = ColumnDef::new("run_id");
        run.text().not_null();
        let table = Table::create()
            .table("tickets")
            .col(run)
            .foreign_key(
                ForeignKey::create()
                    .from("tickets", "run_id")
                    .to("skill_runs", "id"),
            )
            .take();
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table("tickets").take())
            .await
    }
}

/// A host with our migrations in its own migrator, and with a table that references ours.
struct ReferringHost;

impl MigratorTrait for ReferringHost {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = ComposedHost::migrations();
        all.push(Box::new(CreateTickets));
        all
    }
}

async fn assert_works(db: &DatabaseConnection) {
    assert_eq!(
        Migrator::new().state(db).await.unwrap(),
        SchemaState::Current
    );
    let store = AuditStore::new(db.clone());
    store.initialize().await.unwrap();
    store.start_run(&running("r")).await.unwrap();
    assert_eq!(store.get_run("r").await.unwrap(), running("r"));
    execute(db, "SELECT id FROM host_things").await;
}

on_each_backend! {
    async fn our_migrations_can_follow_a_hosts(database) {
        let db = database.connection().await;
        Host::up(&db, None).await.unwrap();
        Migrator::new().up(&db, None).await.unwrap();
        assert_works(&db).await;
        Host::up(&db, None).await.unwrap();
        assert_eq!(count(&db, "seaql_migrations").await, 1);
    }

    async fn a_hosts_migrations_can_follow_ours(database) {
        let db = database.connection().await;
        Migrator::new().up(&db, None).await.unwrap();
        Host::up(&db, None).await.unwrap();
        assert_works(&db).await;
        assert!(Migrator::new().up(&db, None).await.unwrap().is_empty());
    }

    async fn a_composed_schema_can_be_migrated_standalone(database) {
        let db = database.connection().await;
        ComposedHost::up(&db, None).await.unwrap();
        assert_works(&db).await;
        // The migrations are only recorded, not applied again: the run still exists.
        assert_eq!(
            Migrator::new().up(&db, None).await.unwrap().len(),
            runtrail_migration::migrations().len()
        );
        assert_works(&db).await;
        ComposedHost::up(&db, None).await.unwrap();
        assert_eq!(count(&db, "skill_runs").await, 1);
    }

    async fn a_standalone_schema_can_be_migrated_by_a_composed_host(database) {
        let db = database.connection().await;
        Migrator::new().up(&db, None).await.unwrap();
        AuditStore::new(db.clone())
            .start_run(&running("r"))
            .await
            .unwrap();
        ComposedHost::up(&db, None).await.unwrap();
        assert_works(&db).await;
        assert!(Migrator::new().up(&db, None).await.unwrap().is_empty());
        assert_eq!(count(&db, "skill_runs").await, 1);
    }

    async fn a_host_can_compose_our_migrations_later(database) {
        let db = database.connection().await;
        Host::up(&db, None).await.unwrap();
        ComposedHost::up(&db, None).await.unwrap();
        assert_works(&db).await;
    }

    async fn a_partly_migrated_composed_host_is_outdated(database) {
        let db = database.connection().await;
        ComposedHost::up(&db, Some(1)).await.unwrap();
        let store = AuditStore::new(db.clone());
        assert_kind(
            store.start_run(&running("r")).await,
            ErrorKind::SchemaOutdated,
        );
        ComposedHost::up(&db, None).await.unwrap();
        assert_works(&db).await;
    }

    async fn tables_rolled_back_by_a_composed_host_can_be_created_standalone(database) {
        let db = database.connection().await;
        ComposedHost::up(&db, None).await.unwrap();
        Migrator::new().up(&db, None).await.unwrap();
        // The host's own migration, and all of ours.
        let all = 1 + runtrail_migration::migrations().len() as u32;
        ComposedHost::down(&db, Some(all)).await.unwrap();
        assert_eq!(
            Migrator::new().state(&db).await.unwrap(),
            SchemaState::Missing
        );
        Migrator::new().up(&db, None).await.unwrap();
        Host::up(&db, None).await.unwrap();
        assert_works(&db).await;
    }

    async fn a_composed_host_that_rolls_back_one_step_keeps_the_history(database) {
        let db = database.connection().await;
        ReferringHost::up(&db, None).await.unwrap();
        assert_works(&db).await;
        execute(&db, "INSERT INTO tickets VALUES ('r')").await;
        ReferringHost::down(&db, Some(1)).await.unwrap();
        assert_eq!(count(&db, "skill_runs").await, 1);
        ReferringHost::up(&db, None).await.unwrap();
        assert_eq!(count(&db, "tickets").await, 0);
    }

    async fn a_composed_host_deletes_no_history_by_rolling_back(database) {
        let db = database.connection().await;
        ReferringHost::up(&db, None).await.unwrap();
        let store = AuditStore::new(db.clone());
        store.start_run(&running("r")).await.unwrap();
        store.append_log(&event("r", 0)).await.unwrap();

        let err = ReferringHost::down(&db, None)
            .await
            .unwrap_err()
            .to_string();
        assert!(err.contains("skill_run_logs has rows"), "{err}");
        assert_eq!(count(&db, "skill_run_logs").await, 1);
        execute(&db, "DELETE FROM skill_run_logs").await;
        let err = ReferringHost::down(&db, None)
            .await
            .unwrap_err()
            .to_string();
        assert!(err.contains("skill_runs has rows"), "{err}");
        assert_eq!(count(&db, "skill_runs").await, 1);
        // The documented way to drop a history.
        execute(&db, "DELETE FROM skill_runs").await;
        ReferringHost::down(&db, None).await.unwrap();
        assert_eq!(
            Migrator::new().state(&db).await.unwrap(),
            SchemaState::Missing
        );
    }

    async fn a_composed_hosts_tables_rolled_back_standalone_can_be_created_again(database) {
        let db = database.connection().await;
        ComposedHost::up(&db, None).await.unwrap();
        Migrator::new().up(&db, None).await.unwrap();
        Migrator::new().down(&db, 99).await.unwrap();
        assert_eq!(
            Migrator::new().state(&db).await.unwrap(),
            SchemaState::Missing
        );
        AuditStore::new(db.clone()).initialize().await.unwrap();
        assert_works(&db).await;
    }

    async fn a_hosts_own_table_with_our_name_stops_a_composed_host(database) {
        let db = database.connection().await;
        execute(&db, "CREATE TABLE skill_runs (id integer)").await;
        let err = ComposedHost::up(&db, None).await.unwrap_err();
        assert!(
            err.to_string()
                .contains("table skill_runs is not Runtrail's"),
            "{err}"
        );
        assert_eq!(count(&db, "skill_runs").await, 0);
    }

    async fn rolling_back_leaves_the_hosts_tables(database) {
        let db = database.connection().await;
        Host::up(&db, None).await.unwrap();
        execute(&db, "INSERT INTO host_things VALUES (1)").await;
        Migrator::new().up(&db, None).await.unwrap();
        Migrator::new().down(&db, 99).await.unwrap();
        assert_eq!(count(&db, "host_things").await, 1);
        assert_eq!(count(&db, "seaql_migrations").await, 1);
    }
}
