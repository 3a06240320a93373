//! From the first call of a store until it is closed, and the result of each call in between.

use std::time::Duration;

use runtrail_audit::{Error, ErrorKind, Storage};
use runtrail_db::DatabaseOptions;
use runtrail_migration::SchemaName;
use runtrail_store::AuditStore;

use crate::fixture::*;

const CALLS: u64 = 600;

on_each_backend! {
    async fn closing_waits_for_pending_calls(database) {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let calls: Vec<_> = (0..CALLS)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move { store.append_log(&event("r", number)).await })
            })
            .collect();
        // Some calls have completed by then, others are pending.
        store.append_log(&event("r", CALLS)).await.unwrap();
        store.close().await.unwrap();
        let mut acknowledged = 1;
        for call in calls {
            // Calls made after the store is closed are refused.
            match call.await.unwrap() {
                Ok(()) => acknowledged += 1,
                Err(err) => assert!(
                    matches!(
                        err,
                        Error::Backend {
                            transient: false,
                            ..
                        }
                    ),
                    "{err:?}"
                ),
            }
        }
        let db = database.connection().await;
        assert_eq!(count(&db, "skill_run_logs").await, acknowledged);
    }

    async fn concurrent_closes_all_wait_for_pending_calls(database) {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let append = |number| {
            let store = store.clone();
            tokio::spawn(async move { store.append_log(&event("r", number)).await })
        };
        let calls: Vec<_> = (0..200).map(append).collect();
        store.append_log(&event("r", 1_000)).await.unwrap();
        // One close that is dropped, and two at once.
        poll_some(store.clone().close(), 1).await;
        let (first, second) = futures_util::join!(store.clone().close(), store.clone().close());
        first.and(second).unwrap();
        for call in calls {
            // The store has answered the call, but its task may not have run since.
            let answer = tokio::time::timeout(Duration::from_millis(500), call)
                .await
                .unwrap()
                .unwrap();
            assert!(
                matches!(
                    answer,
                    Ok(())
                        | Err(Error::Backend {
                            transient: false,
                            ..
                        })
                ),
                "{answer:?}"
            );
        }
    }

    async fn a_closed_store_refuses_every_call(database) {
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
            assert!(
                matches!(
                    answer,
                    Err(Error::Backend {
                        transient: false,
                        ..
                    })
                ),
                "{answer:?}"
            );
        }
        clone.close().await.unwrap();
    }

    async fn a_call_completes_even_if_the_writing_tasks_runtime_ends(database) {
        for _ in 0..20 {
            let elsewhere = tokio::task::spawn_blocking(runtime).await.unwrap();
            let options = DatabaseOptions::new(database.url());
            let connected = elsewhere.spawn(async {
                let store = AuditStore::connect(options).await.unwrap();
                store.initialize().await.unwrap();
                // The writing task starts here, and ends with this runtime.
                store.start_run(&running("r")).await.unwrap();
                store
            });
            let store = connected.await.unwrap();
            let calls = (0..50).map(|number| {
                let store = store.clone();
                tokio::spawn(async move { store.append_log(&event("r", number)).await })
            });
            let calls: Vec<_> = calls.collect();
            tokio::task::yield_now().await;
            elsewhere.shutdown_background();
            for call in calls {
                // A new writing task on the test's runtime repeats the call.
                tokio::time::timeout(PATIENCE, call)
                    .await
                    .unwrap()
                    .unwrap()
                    .unwrap();
            }
            store.close().await.unwrap();
        }
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

#[test]
fn the_first_call_on_a_runtime_without_timers_is_a_typed_error() {
    on_database(Backend::Sqlite, async |database| {
        let url = database.url();
        let store = database.store().await;
        let calls = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(async {
                assert_kind(AuditStore::connect(url).await, ErrorKind::Backend);
                // A store that was already used on another runtime, and one that wasn't.
                let fresh = store.clone().in_schema(SchemaName::new("audit").unwrap());
                for store in [store, fresh] {
                    let err = assert_kind(store.start_run(&running("r")).await, ErrorKind::Backend);
                    assert!(err.to_string().contains("timers"), "{err}");
                }
            });
        };
        std::thread::spawn(calls).join().unwrap();
    });
}
