//! An older attempt to start a run never replaces an acknowledged start, even if it reaches the
//! database late.

use std::time::Duration;

use runtrail_audit::{Error, SkillRun, Storage};
use runtrail_store::AuditStore;
use runtrail_test_servers::Cluster;
use rustix::process::{Pid, Signal, kill_process};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};

use crate::fixture::*;

/// Returns a running run `r` of this skill.
fn start(skill: &str) -> SkillRun {
    with(running("r"), |run| run.skill_id = skill.into())
}

/// Returns the id of a server process, once one waits for a lock.
async fn waiting_backend(db: &impl ConnectionTrait) -> Pid {
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = \
        current_database()";
    loop {
        if let [pid] = fetch::<i32>(db, waiting).await[..] {
            return Pid::from_raw(pid).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until no statement is running any more.
async fn settled(db: &impl ConnectionTrait) {
    let busy = "SELECT COUNT(*) FROM pg_stat_activity WHERE state = 'active' \
                AND pid <> pg_backend_pid() \
                AND backend_type = 'client backend'";
    while fetch::<i64>(db, busy).await[0] > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Stops the server process of a start, drops that call, starts the run again, and resumes the
/// process.
async fn stall(store: &AuditStore, newer: &AuditStore, db: &DatabaseConnection) {
    for is_stored in [false, true] {
        execute(db, "DELETE FROM skill_runs").await;
        if is_stored {
            store.start_run(&start("first")).await.unwrap();
        }
        let txn = db.begin().await.unwrap();
        execute(&txn, "LOCK TABLE skill_runs IN SHARE ROW EXCLUSIVE MODE").await;
        let older = tokio::spawn({
            let store = store.clone();
            async move { store.start_run(&start("older")).await }
        });
        let process = waiting_backend(db).await;
        kill_process(process, Signal::STOP).unwrap();
        older.abort();
        txn.commit().await.unwrap();

        newer.start_run(&start("newer")).await.unwrap();
        assert_eq!(newer.get_run("r").await.unwrap(), start("newer"));
        kill_process(process, Signal::CONT).unwrap();
        settled(db).await;
        assert_eq!(
            newer.get_run("r").await.unwrap(),
            start("newer"),
            "stored before: {is_stored}"
        );
    }
}

#[test]
fn an_older_start_that_stalled_replaces_no_newer_one_on_postgres() {
    runtime().block_on(async {
        let cluster = Cluster::start(&[]).unwrap();
        let url = cluster.url();
        let db = Database::connect(ConnectOptions::new(&url).sqlx_logging(false).to_owned())
            .await
            .unwrap();
        let own = AuditStore::connect(url.as_str()).await.unwrap();
        own.initialize().await.unwrap();
        let another = AuditStore::connect(url.as_str()).await.unwrap();
        let host = AuditStore::new(db.clone());
        stall(&own, &another, &db).await;
        stall(&host, &own, &db).await;
    });
}

/// Several connections of a host's pool wait for a lock, and SQLite grants it in any order.
#[test]
fn an_older_start_that_was_dropped_replaces_no_newer_one_on_sqlite() {
    on_database(Backend::Sqlite, async |database| {
        database.store().await.close().await.unwrap();
        let mut options = ConnectOptions::new(database.url());
        options
            .max_connections(4)
            .min_connections(4)
            .sqlx_logging(false);
        let host = AuditStore::new(Database::connect(options).await.unwrap());
        let db = database.connection().await;
        for round in 0..20 {
            execute(&db, "DELETE FROM skill_runs").await;
            if round % 2 == 0 {
                host.start_run(&start("first")).await.unwrap();
            }
            execute(&db, "BEGIN IMMEDIATE").await;
            assert!(
                poll_some(host.start_run(&start("older")), 20)
                    .await
                    .is_none()
            );
            let newer = tokio::spawn({
                let host = host.clone();
                async move { host.start_run(&start("newer")).await }
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
            execute(&db, "COMMIT").await;
            newer.await.unwrap().unwrap();
            // Longer than SQLite sleeps between two attempts to lock the file.
            tokio::time::sleep(Duration::from_millis(150)).await;
            assert_eq!(
                host.get_run("r").await.unwrap(),
                start("newer"),
                "round {round}"
            );
        }
    });
}

on_each_backend! {
    /// Calls that queue up behind a lock become one group commit; a refused one still gets its own
    /// answer.
    async fn a_refused_start_changes_nothing(database) {
        let store = database.store().await;
        let db = database.connection().await;
        let other = |id: &str| with(finished_at(id, 5), |run| run.skill_id = "other".into());
        for round in 0..10 {
            let (x, y) = (format!("x-{round}"), format!("y-{round}"));
            store.start_run(&running(&x)).await.unwrap();
            store.start_run(&finished_at(&y, 1)).await.unwrap();

            let txn = match database.backend() {
                Backend::Sqlite => {
                    let immediate = TransactionOptions {
                        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                        ..TransactionOptions::default()
                    };
                    db.begin_with_options(immediate).await.unwrap()
                }
                Backend::Postgres => {
                    let txn = db.begin().await.unwrap();
                    execute(&txn, "LOCK TABLE skill_runs IN SHARE ROW EXCLUSIVE MODE").await;
                    txn
                }
            };
            let first = tokio::spawn({
                let store = store.clone();
                async move { store.start_run(&running("first")).await }
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
            let (other_x, other_y, stats) = (other(&x), other(&y), stats());
            let calls = async {
                futures_util::join!(
                    store.start_run(&other_x),
                    store.start_run(&other_y),
                    store.finish_run(&x, &stats)
                )
            };
            let unlock = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                txn.commit().await.unwrap();
            };
            let ((started, refused, finished), ()) = futures_util::join!(calls, unlock);
            first.await.unwrap().unwrap();
            finished.unwrap();
            assert!(
                matches!(refused, Err(Error::RunFinished { .. })),
                "{refused:?}"
            );
            let skill = store.get_run(&x).await.unwrap().skill_id;
            match started {
                Ok(()) => assert_eq!(skill, "other"),
                Err(Error::RunFinished { .. }) => assert_eq!(
                    skill, "skill",
                    "the start was refused, but has changed the run"
                ),
                other => panic!("{other:?}"),
            }
        }
    }
}
