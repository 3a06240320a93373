use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use runtrail_audit::{ErrorKind, Retention, Storage};
use runtrail_db::{DatabaseOptions, Retry};
use runtrail_store::AuditStore;
use sea_orm::{Database, DatabaseConnection, TransactionTrait};

use super::proxy::Proxy;
use super::sql_client::{count, end_connections, run_sql};
use crate::fixture::*;

#[test]
fn lost_connections_cause_no_errors() {
    on_database(Backend::Postgres, async |database| {
        // More connections than a call has attempts.
        const CONNECTIONS: u32 = 30;
        let options = DatabaseOptions::new(database.url()).max_connections(CONNECTIONS);
        let store = AuditStore::connect(options).await.unwrap();
        store.initialize().await.unwrap();
        for round in 0..10 {
            let reads = (0..CONNECTIONS).map(|_| store.list_runs_by_skill("skill", None));
            for read in futures_util::future::join_all(reads).await {
                assert_eq!(read.unwrap().len(), round);
            }
            end_connections(&database.url());
            store.start_run(&running(&round.to_string())).await.unwrap();
            end_connections(&database.url());
            store.get_run(&round.to_string()).await.unwrap();
        }
        // The connections may also end before the first statement.
        let store = AuditStore::connect(database.url()).await.unwrap();
        end_connections(&database.url());
        store.initialize().await.unwrap();
        assert_eq!(count(&database.url(), "skill_runs"), 10);
    });
}

#[test]
fn without_retries_a_lost_connection_is_an_error() {
    on_database(Backend::Postgres, async |database| {
        let store = database.store().await.with_retry(Retry::never());
        let mut total_errors = 0;
        for round in 0..10 {
            // A round has no error if the store finds the dead connection while caching it.
            store.start_run(&running("before")).await.unwrap();
            let id = round.to_string();
            end_connections(&database.url());
            let mut errors = 0;
            while let Err(err) = store.start_run(&running(&id)).await {
                assert!(err.is_transient(), "{err:?}");
                errors += 1;
                // At most one error for each connection of the pool that was ended.
                assert!(errors <= 8, "{err:?}");
            }
            total_errors += errors;
            assert_eq!(count(&database.url(), "skill_runs"), round + 2);
        }
        assert!(total_errors > 0);
    });
}

/// The caller's connection may be inside a transaction.
#[test]
fn nothing_is_retried_on_a_callers_connection() {
    on_database(Backend::Postgres, async |database| {
        let mut options = sea_orm::ConnectOptions::new(database.url());
        options.max_connections(1).test_before_acquire(false);
        let host = Database::connect(options).await.unwrap();
        let store = AuditStore::new(host.clone());
        store.initialize().await.unwrap();
        let txn = host.begin().await.unwrap();
        store.on(&txn).start_run(&running("a")).await.unwrap();
        end_connections(&database.url());
        let err = store.on(&txn).start_run(&running("b")).await.unwrap_err();
        assert!(err.is_transient(), "{err:?}");
        drop(txn);

        // Outside a transaction a retry would succeed, but none happens either.
        store.start_run(&running("c")).await.unwrap();
        end_connections(&database.url());
        let err = store.on(&host).start_run(&running("d")).await.unwrap_err();
        assert!(err.is_transient(), "{err:?}");
        end_connections(&database.url());
        store.start_run(&running("e")).await.unwrap();
        assert_eq!(
            run_sql(&database.url(), "SELECT id FROM skill_runs ORDER BY id"),
            ["c", "e"]
        );
    });
}

/// Returns a store that doesn't wait for locks, and the count of its statements.
async fn without_lock_wait(database: &TestDatabase) -> (AuditStore, Arc<AtomicU64>) {
    let options = DatabaseOptions::new(database.url()).busy_timeout(Duration::ZERO);
    counted_store(options.open().await.unwrap()).await
}

/// Returns a store on this connection, and the count of its statements.
async fn counted_store(mut host: DatabaseConnection) -> (AuditStore, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    host.set_metric_callback(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let store = AuditStore::new(host);
    store.initialize().await.unwrap();
    sent.store(0, Ordering::Relaxed);
    (store, sent)
}

#[test]
fn retries_are_bounded_in_number_and_time() {
    on_database(Backend::Sqlite, async |database| {
        let (store, sent) = without_lock_wait(database).await;
        let other = database.connection().await;
        let txn = other.begin().await.unwrap();
        execute(&txn, "DELETE FROM skill_runs").await;

        let three = store.clone().with_retry(Retry::default().tries(3));
        let err = assert_kind(three.start_run(&running("r")).await, ErrorKind::Busy);
        assert!(err.is_transient());
        assert_eq!(sent.swap(0, Ordering::Relaxed), 3);

        let never = store.clone().with_retry(Retry::never());
        assert_kind(never.start_run(&running("r")).await, ErrorKind::Busy);
        assert_eq!(sent.swap(0, Ordering::Relaxed), 1);

        let half_a_second = Retry::default()
            .tries(1_000_000)
            .within(Duration::from_millis(500));
        let begun = Instant::now();
        let hasty = store.clone().with_retry(half_a_second);
        assert_kind(hasty.start_run(&running("r")).await, ErrorKind::Busy);
        let took = begun.elapsed().as_secs_f64();
        assert!((0.5..2.0).contains(&took), "{took}");
        // The delay before each attempt grows up to a limit.
        let tries = sent.swap(0, Ordering::Relaxed);
        assert!((4..20).contains(&tries), "{tries}");

        // Once the lock is released, an attempt succeeds.
        let write = async { store.start_run(&running("r")).await };
        let release = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            txn.commit().await
        };
        let (written, released) = futures_util::future::join(write, release).await;
        released.unwrap();
        written.unwrap();
        assert!(sent.load(Ordering::Relaxed) > 1);
    });
}

/// The host's own timeout says how long to wait; a retry would wait longer.
#[test]
fn timeouts_are_not_retried() {
    on_database(Backend::Postgres, async |database| {
        let url = format!("{}?options=-c%20statement_timeout=100", database.url());
        let (store, sent) = counted_store(Database::connect(url).await.unwrap()).await;
        let other = database.connection().await;
        let txn = other.begin().await.unwrap();
        execute(&txn, "LOCK TABLE skill_runs IN EXCLUSIVE MODE").await;
        assert_kind(store.start_run(&running("r")).await, ErrorKind::Timeout);
        assert_eq!(sent.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn refusals_are_not_retried() {
    on_database(Backend::Sqlite, async |database| {
        let (store, sent) = without_lock_wait(database).await;
        store.start_run(&finished_at("r", 1)).await.unwrap();
        sent.store(0, Ordering::Relaxed);
        assert_kind(store.start_run(&running("")).await, ErrorKind::InvalidInput);
        assert_kind(store.get_run("unknown").await, ErrorKind::NotFound);
        let other = running_at("r", 5);
        assert_kind(store.start_run(&other).await, ErrorKind::RunFinished);
        assert_eq!(
            sent.load(Ordering::Relaxed),
            3,
            "no statement, one, and a write with its follow-up query"
        );
    });
}

/// After a failover, the address may still lead to a standby.
#[test]
fn a_server_that_refuses_writes_causes_a_read_only_error() {
    on_database(Backend::Postgres, async |database| {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let url = format!(
            "{}?options=-c%20default_transaction_read_only=on",
            database.url()
        );
        let standby = AuditStore::connect(url).await.unwrap();
        let begun = Instant::now();
        let err = assert_kind(standby.start_run(&running("s")).await, ErrorKind::ReadOnly);
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "the call was retried"
        );
        let message = err.to_string();
        assert!(
            message.starts_with("the database is read-only: "),
            "{message}"
        );
        assert!(message.contains("read-only transaction"), "{message}");
        standby.get_run("r").await.unwrap();
    });
}

#[test]
fn a_call_to_a_silent_server_ends_at_its_deadline() {
    on_database(Backend::Postgres, async |database| {
        let url = database.url();
        let proxy = Proxy::in_front_of(&url).await;
        let store = AuditStore::connect(proxy.url()).await.unwrap();
        store.initialize().await.unwrap();
        let store = store.with_deadline(Duration::from_millis(500));
        proxy.stall();
        let begun = Instant::now();
        let err = assert_kind(store.start_run(&running("r")).await, ErrorKind::Timeout);
        assert!(err.is_transient());
        assert_kind(store.get_run("r").await, ErrorKind::Timeout);
        assert!(begun.elapsed() < Duration::from_secs(3));
        proxy.resume();
        store.start_run(&running("r")).await.unwrap();
        assert_eq!(count(&url, "skill_runs"), 1);
    });
}

/// Otherwise the driver would wait for the answer to each abandoned call, until no connection is
/// free for calls that need no lock.
#[test]
fn an_abandoned_call_frees_its_connection() {
    on_database(Backend::Postgres, async |database| {
        let url = database.url();
        let options = DatabaseOptions::new(url.as_str()).max_connections(1);
        let store = AuditStore::connect(options).await.unwrap();
        store.initialize().await.unwrap();
        let other = database.connection().await;
        let txn = other.begin().await.unwrap();
        execute(&txn, "LOCK TABLE skill_runs IN EXCLUSIVE MODE").await;

        let hasty = store.clone().with_deadline(Duration::from_millis(300));
        assert_kind(hasty.start_run(&running("r")).await, ErrorKind::Timeout);
        // The host can also apply its own timeout.
        let abandoned =
            tokio::time::timeout(Duration::from_millis(300), store.start_run(&running("r"))).await;
        assert!(abandoned.is_err());
        // Reads don't need the lock.
        assert_kind(store.get_run("r").await, ErrorKind::NotFound);
        let begun = Instant::now();
        store.close().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3));
        txn.commit().await.unwrap();
    });
}

cases_of_the_store! {
    /// Each batch gets the whole deadline.
    async fn a_deadline_does_not_end_a_purge_that_makes_progress(cx) {
        for number in 0..600 {
            cx.store
                .start_run(&finished_at(&number.to_string(), 1))
                .await
                .unwrap();
        }
        let store = cx.store.clone().with_deadline(Duration::from_secs(1));
        let slowly = |_| std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            store.purge_in_batches(at(2), &slowly).await.unwrap().runs,
            600
        );
    }

    async fn extreme_durations_do_not_panic(cx) {
        let store = cx.store.clone().with_deadline(Duration::MAX);
        let store = store.with_retry(Retry::default().tries(usize::MAX).within(Duration::MAX));
        store.start_run(&running("r")).await.unwrap();
        let store = store
            .with_deadline(Duration::ZERO)
            .with_retry(Retry::default().tries(0));
        // The result may be ready at once, despite the deadline.
        let _ = store.get_run("r").await;
    }
}
