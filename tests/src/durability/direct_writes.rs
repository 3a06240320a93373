use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use runtrail_audit::{ErrorKind, Result, SkillRunLog, Storage};
use runtrail_db::Retry;
use runtrail_store::AuditStore;
use tokio::time::{sleep, timeout};

use super::stalls::assert_yields_until_unlocked;
use crate::fixture::*;

const EVENTS: u64 = 100;

/// Longer than a call needs on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// The event that a trigger refuses.
const REFUSED: u64 = 50;

fn events() -> Vec<SkillRunLog> {
    let event = |number| {
        with(event("r", number), |event| {
            if number == REFUSED {
                event.event_type = "refused".into();
            }
        })
    };
    (0..EVENTS).map(event).collect()
}

/// Makes calls while another connection holds the lock. The first one waits for the lock alone; the
/// others queue up behind it, and share a transaction.
async fn while_locked<T>(database: &TestDatabase, calls: impl Future<Output = T>) -> T {
    let db = database.connection().await;
    execute(&db, "BEGIN IMMEDIATE").await;
    let unlock = async {
        sleep(Duration::from_millis(100)).await;
        db.close().await.unwrap();
    };
    futures_util::join!(calls, unlock).0
}

async fn append_together(
    database: &TestDatabase,
    store: &AuditStore,
    events: &[SkillRunLog],
) -> Vec<Result<()>> {
    let calls = events.iter().map(|event| store.append_log(event));
    while_locked(database, join_all(calls)).await
}

/// Appends events together, of which a trigger refuses one. Checks that only its caller gets an
/// error, and that all others are stored.
async fn assert_only_the_refused_event_fails(database: &TestDatabase, triggers: &[&str]) {
    let store = database.store().await;
    store.start_run(&running("r")).await.unwrap();
    let db = database.connection().await;
    for sql in triggers {
        execute(&db, sql).await;
    }
    let answers = append_together(database, &store, &events()).await;
    for (number, answer) in (0..).zip(answers) {
        match number {
            REFUSED => drop(assert_kind(answer, ErrorKind::Backend)),
            _ => answer.unwrap(),
        }
    }
    let sequences = "SELECT sequence FROM skill_run_logs ORDER BY sequence";
    let stored: Vec<i64> = fetch(&db, sequences).await;
    let expected: Vec<i64> = (0..EVENTS)
        .filter(|number| *number != REFUSED)
        .map(u64::cast_signed)
        .collect();
    assert_eq!(stored, expected);
    // The connection isn't inside a transaction that would never be committed.
    store.append_log(&event("r", EVENTS)).await.unwrap();
    assert_eq!(count(&db, "skill_run_logs").await, EVENTS.cast_signed());
}

#[test]
fn a_call_that_rolls_back_the_transaction_of_a_group_costs_no_other_call() {
    on_database(Backend::Sqlite, async |database| {
        assert_only_the_refused_event_fails(
            database,
            &["CREATE TRIGGER refuse BEFORE INSERT ON skill_run_logs
                WHEN NEW.event_type = 'refused'
                BEGIN SELECT RAISE(ROLLBACK, 'refused'); END"],
        )
        .await;
    });
}

#[test]
fn a_group_that_cannot_be_committed_is_written_call_by_call() {
    on_database(Backend::Sqlite, async |database| {
        assert_only_the_refused_event_fails(
            database,
            &[
                "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
                "CREATE TABLE children (
                    parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED
                )",
                "CREATE TRIGGER refuse AFTER INSERT ON skill_run_logs
                    WHEN NEW.event_type = 'refused'
                    BEGIN INSERT INTO children VALUES (1); END",
            ],
        )
        .await;
    });
}

#[test]
fn a_call_that_never_succeeds_does_not_stop_the_others_of_its_group() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await.with_retry(Retry::never());
        store.start_run(&running("r")).await.unwrap();
        store.start_run(&running("protected")).await.unwrap();
        let db = database.connection().await;
        // The store takes a row that it can't change for one that another caller is changing.
        execute(
            &db,
            "CREATE TRIGGER protect BEFORE UPDATE ON skill_runs WHEN OLD.id = 'protected'
             BEGIN SELECT RAISE(IGNORE); END",
        )
        .await;
        let restart = with(running("protected"), |run| run.skill_id = "another".into());
        let (first, events) = (event("r", EVENTS), events());
        let calls = async {
            futures_util::join!(
                store.append_log(&first),
                store.start_run(&restart),
                join_all(events.iter().map(|event| store.append_log(event)))
            )
        };
        let calls = timeout(LONG, while_locked(database, calls));
        let (first, restarted, appended) = calls.await.unwrap();
        first.unwrap();
        assert_kind(restarted, ErrorKind::Busy);
        assert!(appended.iter().all(Result::is_ok), "{appended:?}");
    });
}

#[test]
fn calls_that_queue_up_share_a_commit() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let log = database.file().with_extension("db-wal");
        let pages = || fs::metadata(&log).unwrap().len() / 4096;
        let before = pages();
        let answers = append_together(database, &store, &events()).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        // A commit writes each page that it changes once; a commit for each event would write at
        // least two pages each.
        let written = pages() - before;
        assert!(written < EVENTS, "{written} pages");
    });
}

#[test]
fn a_write_waits_for_a_lock_without_occupying_a_thread_of_its_runtime() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let db = database.connection().await;
        execute(&db, "BEGIN IMMEDIATE").await;
        let append = async move || store.append_log(&event("r", 0)).await.unwrap();
        assert_yields_until_unlocked(db, append).await;
    });
}

#[test]
fn dropping_a_store_closes_the_connection_of_its_writing_thread() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let is_open = || {
            fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter_map(|file| fs::read_link(file.unwrap().path()).ok())
                .any(|file| file == database.file())
        };
        assert!(is_open());
        drop(store);
        let begun = Instant::now();
        while is_open() {
            assert!(begun.elapsed() < LONG, "still open");
            sleep(Duration::from_millis(10)).await;
        }
    });
}
