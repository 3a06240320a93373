//! A rolling update: instances of an older and of a newer version on one database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use runtrail_audit::{ErrorKind, Storage};
use runtrail_migration::{Error, Migrator, SchemaState};
use runtrail_store::AuditStore;
use sea_orm::TransactionTrait;

use super::golden::dump;
use crate::fixture::*;

/// The migrations of a later version: a column, an index and data.
const NEWER: [&str; 3] = [
    "runtrail_m29991231_000001_add_note@0.1.0",
    "runtrail_m29991231_000002_index_note@0.1.0",
    "runtrail_m29991231_000003_fill_note@0.1.0",
];

on_each_backend! {
    async fn an_older_instance_keeps_writing_while_a_column_is_added(database) {
        let store = database.store().await;
        for number in 0..200 {
            let id = format!("before-{number}");
            store.start_run(&running(&id)).await.unwrap();
            store.append_log(&event(&id, 0)).await.unwrap();
        }
        let is_done = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let writing = {
            let (store, is_done, written) = (store.clone(), is_done.clone(), written.clone());
            tokio::spawn(async move {
                while !is_done.load(Ordering::Relaxed) {
                    let number = written.load(Ordering::Relaxed);
                    store
                        .append_log(&event("before-0", number + 1))
                        .await
                        .unwrap();
                    written.store(number + 1, Ordering::Relaxed);
                }
            })
        };
        eventually(|| (written.load(Ordering::Relaxed) > 20).then_some(()));
        let db = database.connection().await;
        let newer = Migrator::of_later_version();
        assert_eq!(newer.up(&db, None).await.unwrap(), NEWER);
        assert!(count(&db, "skill_run_logs WHERE note = 'message'").await >= 200);
        let at_migration = written.load(Ordering::Relaxed);
        eventually(|| (written.load(Ordering::Relaxed) > at_migration + 20).then_some(()));

        // An instance of the older version that starts now.
        let restarted = AuditStore::connect(database.url()).await.unwrap();
        restarted.initialize().await.unwrap();
        restarted.start_run(&running("after")).await.unwrap();
        assert_eq!(
            restarted.list_logs_by_run("before-7").await.unwrap().len(),
            1
        );
        is_done.store(true, Ordering::Relaxed);
        writing.await.unwrap();
        let events = restarted.list_logs_by_run("before-0").await.unwrap();
        assert_eq!(events.len() as u64, written.load(Ordering::Relaxed) + 1);
        assert_eq!(count(&db, "skill_runs").await, 201);
        // A value of the newer version survives the older version's writes.
        execute(
            &db,
            "UPDATE skill_run_logs SET note = 'kept' WHERE run_id = 'before-7'",
        )
        .await;
        restarted.append_log(&event("before-7", 0)).await.unwrap();
        assert_eq!(count(&db, "skill_run_logs WHERE note = 'kept'").await, 1);
    }

    async fn an_added_column_can_be_applied_rolled_back_and_applied_again(database) {
        let db = database.connection().await;
        let newer = Migrator::of_later_version();
        let ours = runtrail_migration::migrations().len() as u32;
        newer.up(&db, Some(ours)).await.unwrap();
        let before = dump(database.backend(), &db).await;
        let state = newer.state(&db).await.unwrap();
        assert_eq!(
            state,
            SchemaState::Outdated {
                pending: NEWER.map(str::to_owned).into()
            }
        );
        newer.up(&db, None).await.unwrap();
        let after = dump(database.backend(), &db).await;
        assert_ne!(after, before);
        assert_eq!(
            newer.down(&db, 3).await.unwrap(),
            [NEWER[2], NEWER[1], NEWER[0]]
        );
        assert_eq!(dump(database.backend(), &db).await, before);
        newer.up(&db, None).await.unwrap();
        assert_eq!(dump(database.backend(), &db).await, after);

        // Dropping the column would delete its values.
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.start_run(&running("r")).await.unwrap();
        store.append_log(&event("r", 0)).await.unwrap();
        execute(&db, "UPDATE skill_run_logs SET note = 'x'").await;
        assert!(matches!(
            newer.down(&db, 3).await,
            Err(Error::NotEmpty { .. })
        ));
        newer.clone().deleting_rows().down(&db, 3).await.unwrap();
        assert_eq!(store.list_logs_by_run("r").await.unwrap().len(), 1);
    }

    async fn an_older_version_rolls_back_nothing_of_a_newer_schema(database) {
        let db = database.connection().await;
        Migrator::of_later_version().up(&db, None).await.unwrap();
        let older = Migrator::new();
        assert_eq!(older.state(&db).await.unwrap(), SchemaState::Current);
        assert_eq!(older.up(&db, None).await.unwrap(), Vec::<String>::new());
        let refused = older.down(&db, 1).await;
        assert!(
            matches!(refused, Err(Error::Unfit(SchemaState::TooNew { .. }))),
            "{refused:?}"
        );
        // A migration that the older version is not compatible with.
        execute(
            &db,
            "UPDATE runtrail_migrations SET version = \
            'runtrail_m29991231_000001_x@99.0.0' WHERE version LIKE '%note@%' AND version LIKE \
            '%000001%'",
        )
        .await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        assert_kind(store.get_run("r").await, ErrorKind::SchemaTooNew);
    }
}

#[test]
fn a_migration_that_waits_for_a_long_transaction_does_not_block_writes() {
    on_database(Backend::Postgres, async |database| {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let db = database.connection().await;
        let long = db.begin().await.unwrap();
        count(&long, "skill_run_logs").await;
        let other = database.connection().await;
        let migrating =
            tokio::spawn(async move { Migrator::of_later_version().up(&other, None).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = std::time::Instant::now();
        store.append_log(&event("r", 0)).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "{:?}",
            begun.elapsed()
        );
        long.rollback().await.unwrap();
        assert_eq!(migrating.await.unwrap().unwrap(), NEWER);
    });
}
