use std::sync::Arc;

use runtrail_audit::Storage;
use runtrail_migration::{Migrator, SchemaState, locked};
use runtrail_store::AuditStore;
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use crate::fixture::*;

const ROUNDS: usize = 20;
const PROCESSES: usize = 16;

/// Runs one round: all processes start on an empty database, and each must report success.
async fn round(database: &TestDatabase) {
    let migrate = || {
        migration_command(&database.url())
            .arg("up")
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..PROCESSES).map(|_| migrate()).collect();
    let mut applied = 0;
    for process in processes {
        let output = process.wait_with_output().unwrap();
        let printed = printed(&output);
        assert!(output.status.success(), "{printed}");
        let (changes, _) = printed.split_once("Now:").unwrap();
        applied += changes.matches("applied runtrail_").count();
    }
    // Exactly one process applied each migration.
    assert_eq!(applied, runtrail_migration::migrations().len());

    let db = database.connection().await;
    assert_eq!(
        Migrator::new().state(&db).await.unwrap(),
        SchemaState::Current
    );
    let store = AuditStore::connect(database.url()).await.unwrap();
    store.start_run(&running("r")).await.unwrap();
    store.close().await.unwrap();
    db.close().await.unwrap();
}

/// A host with our migrations in its own migrator.
struct ComposedHost;

impl MigratorTrait for ComposedHost {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        runtrail_migration::migrations()
    }
}

on_each_backend! {
    async fn eight_composed_hosts_migrate_an_empty_database_at_once(database) {
        let start = Arc::new(tokio::sync::Barrier::new(8));
        let mut hosts = Vec::new();
        for _ in 0..8 {
            let (db, start) = (database.connection().await, start.clone());
            hosts.push(tokio::spawn(async move {
                start.wait().await;
                let migrated = locked(&db, |txn| Box::pin(ComposedHost::up(txn, None)));
                migrated.await.unwrap();
            }));
        }
        for host in hosts {
            host.await.unwrap();
        }
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.start_run(&running("r")).await.unwrap();
        store.close().await.unwrap();
    }

    async fn sixteen_processes_migrate_an_empty_database_at_once(database) {
        round(database).await;
        for _ in 1..ROUNDS {
            let another = TestDatabase::create(database.backend()).await;
            round(&another).await;
            another.drop().await;
        }
    }

    async fn many_stores_initialize_an_empty_database_at_once(database) {
        initialize_concurrently(database, 16).await;
        let db = database.connection().await;
        assert_eq!(
            Migrator::new().state(&db).await.unwrap(),
            SchemaState::Current
        );
    }
}
