//! From the first call of a store to its closing, and what becomes of a call in between.

use runtrail_audit::{Error, Storage};
use runtrail_store::{AuditStore, ConnectOptions};

use crate::fixture::*;

const CALLS: u64 = 600;

on_each_backend! {
    async fn closing_waits_for_what_was_asked_for(database) {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let calls: Vec<_> = (0..CALLS)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move { store.append_log(&event("r", number)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        store.close().await.unwrap();
        let mut acknowledged = 0;
        for call in calls {
            // Whoever comes after the closing is told so.
            match call.await.unwrap() {
                Ok(()) => acknowledged += 1,
                Err(err) => assert!(matches!(err, Error::Backend { transient: false, .. }), "{err:?}"),
            }
        }
        let db = database.connection().await;
        assert_eq!(count(&db, "skill_run_logs").await, acknowledged);
    }

    async fn a_closed_store_says_so(database) {
        let store = database.store().await;
        let clone = store.clone();
        store.close().await.unwrap();
        let answers = [
            clone.start_run(&running("r")).await,
            clone.append_log(&event("r", 0)).await,
            clone.finish_run("r", &stats()).await,
            clone.get_run("r").await.map(drop),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(Error::Backend { transient: false, .. })), "{answer:?}");
        }
        clone.close().await.unwrap();
    }

    async fn a_store_outlives_the_runtime_that_its_task_began_in(database) {
        let options = ConnectOptions::new(database.url());
        let elsewhere = std::thread::spawn(move || {
            let runtime = runtime();
            let store = runtime.block_on(async {
                let store = AuditStore::connect(options).await.unwrap();
                store.initialize().await.unwrap();
                store.start_run(&running("r")).await.unwrap();
                store
            });
            let (begun, is_begun) = std::sync::mpsc::channel();
            let calls = store.clone();
            runtime.spawn(async move {
                for number in 0.. {
                    calls.append_log(&event("r", number)).await.unwrap();
                    let _ = begun.send(());
                }
            });
            is_begun.recv().unwrap();
            // In the middle of a call.
            runtime.shutdown_background();
            store
        });
        let store = elsewhere.join().unwrap();
        // On SQLite the connection is another thread's business; one to PostgreSQL ends with its runtime.
        for number in 0..10 {
            store.append_log(&event("r", 1_000_000 + number)).await.unwrap();
        }
        store.close().await.unwrap();
    }
}

#[test]
fn a_store_can_be_dropped_without_a_runtime() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        on_database(backend, async |database| {
            let url = database.url();
            std::thread::spawn(move || {
                let runtime = runtime();
                let store = runtime.block_on(async {
                    let store = AuditStore::connect(url).await.unwrap();
                    store.initialize().await.unwrap();
                    store.start_run(&running("r")).await.unwrap();
                    store.get_run("r").await.unwrap();
                    store
                });
                drop(runtime);
                drop(store);
            })
            .join()
            .unwrap();
            let db = database.connection().await;
            assert_eq!(count(&db, "skill_runs").await, 1);
        });
    }
}
