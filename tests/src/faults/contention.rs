use std::process::Stdio;
use std::time::{Duration, Instant};

use runtrail_audit::{ErrorKind, Storage};

use super::counts;
use super::ledger::{Entries, Ledger};
use super::script::{EVENTS, Write};
use super::sql_client::{History, client, count};
use super::writer::{ACQUIRE_TIMEOUT, Plan, Writer, store_for_many_tasks, summary};
use crate::fixture::*;

/// Returns how many runs each task writes.
fn runs_per_task() -> u64 {
    counts::writes() / Write::ALL.len() as u64
}

on_each_backend! {
    async fn sixty_four_tasks_on_one_store_all_succeed(database) {
        let store = store_for_many_tasks(database).await;
        let ledger = Ledger::temporary();
        let runs = runs_per_task();
        let work = async |task: u64| {
            let writer = Writer {
                store: &store,
                ledger: &ledger,
            };
            let mut times = Vec::new();
            for number in 0..runs {
                times.extend(writer.write(&format!("{task}-{number}")).await);
            }
            times
        };
        let times = futures_util::future::join_all((0..64).map(work))
            .await
            .concat();
        eprintln!("64 tasks on {:?}: {}", database.backend(), summary(times));
        assert_all_stored(database, &[ledger.entries()], 64 * runs);
    }

    async fn four_processes_of_sixteen_tasks_all_succeed(database) {
        database.store().await.close().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runs = runs_per_task();
        let plans = ["a", "b", "c", "d"].map(|name| Plan {
            tasks: 16,
            runs,
            acquire_timeout: Some(ACQUIRE_TIMEOUT),
            ..Plan::endless(&database.url(), &folder.path().join(name), name)
        });
        let processes = plans.each_ref().map(Plan::spawn);
        for process in processes {
            let printed = process.wait_for_success();
            let times = printed.lines().find(|line| line.contains("p99")).unwrap();
            eprintln!("a process of four on {:?}: {times}", database.backend());
        }
        let entries = plans.each_ref().map(|plan| Entries::read(&plan.ledger));
        assert_all_stored(database, &entries, 64 * runs);
    }

    /// Three seconds are less than SQLite's lock timeout.
    async fn a_write_waits_for_a_lock_of_a_few_seconds(database) {
        let store = database.store().await;
        let lock = Lock::acquire(database);
        let write = async {
            let begun = Instant::now();
            store.start_run(&running("r")).await.unwrap();
            begun.elapsed()
        };
        let release = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            lock.release();
        };
        let (waited, ()) = futures_util::future::join(write, release).await;
        assert!(waited > Duration::from_millis(2_900), "{waited:?}");
        assert_eq!(count(&database.url(), "skill_runs"), 1);
    }

    /// The lock lasts 30 s. A call ends at its deadline; without one, SQLite's lock timeout ends it
    /// after 10 s.
    async fn a_long_lock_causes_a_typed_error_in_time(database) {
        let store = database.store().await;
        let lock = Lock::acquire(database);
        let hasty = database.store().await.with_deadline(Duration::from_secs(2));
        let without_deadline = async {
            let begun = Instant::now();
            (store.start_run(&running("a")).await, begun.elapsed())
        };
        let with_deadline = async {
            let begun = Instant::now();
            (hasty.start_run(&running("b")).await, begun.elapsed())
        };
        let release = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            lock.release();
        };
        let (patient, hasty_one, ()) = tokio::join!(without_deadline, with_deadline, release);

        assert_kind(hasty_one.0, ErrorKind::Timeout);
        assert!(
            (2.0..3.5).contains(&hasty_one.1.as_secs_f64()),
            "{:?}",
            hasty_one.1
        );
        match database.backend() {
            Backend::Sqlite => {
                let err = assert_kind(patient.0, ErrorKind::Busy);
                assert!(err.is_transient());
                assert!(
                    (10.0..13.0).contains(&patient.1.as_secs_f64()),
                    "{:?}",
                    patient.1
                );
            }
            // PostgreSQL waits without a limit.
            Backend::Postgres => patient.0.unwrap(),
        }
        for id in ["a", "b"] {
            store.start_run(&running(id)).await.unwrap();
        }
        assert_eq!(count(&database.url(), "skill_runs"), 2);
    }
}

#[track_caller]
fn assert_all_stored(database: &TestDatabase, ledgers: &[Entries], runs: u64) {
    let history = History::read(&database.url());
    for entries in ledgers {
        entries.assert_no_failure();
        history.assert_stores(entries);
    }
    assert_eq!(history.runs.len() as u64, runs);
    assert_eq!(history.events.len() as u64, runs * EVENTS);
}

/// A lock of another process on everything that the store writes.
struct Lock(Spawned);

impl Lock {
    fn acquire(database: &TestDatabase) -> Self {
        let lock = match database.backend() {
            Backend::Sqlite => "BEGIN IMMEDIATE",
            Backend::Postgres => "BEGIN; LOCK TABLE skill_runs IN EXCLUSIVE MODE",
        };
        let mut client = client(&database.url());
        let mut client = Spawned::new(client.stdin(Stdio::piped()).stdout(Stdio::piped()));
        client.write(&format!("{lock}; SELECT 'locked';\n"));
        assert!(client.lines().any(|line| line == "locked"));
        Self(client)
    }

    fn release(mut self) {
        self.0.write("COMMIT;\n");
        self.0.close_stdin();
        self.0.wait_for_success();
    }
}
