use std::time::Duration;

use runtrail_audit::{ErrorKind, Page, RunFilter, Storage};
use runtrail_db::{
    Cost, DatabaseOptions, DriverErrorKind, Executor, Plan, Pool, Session, Timing, closing_deadline,
};
use runtrail_store::AuditStore;
use sea_orm::{DbBackend, Statement};
use tokio::time::{sleep, timeout};

use super::stalls::{assert_yields, assert_yields_until_unlocked};
use crate::fixture::*;

/// A query that never ends.
const ENDLESS: &str = "WITH RECURSIVE numbers (number) AS (
    SELECT 1 UNION ALL SELECT number + 1 FROM numbers
) SELECT number FROM numbers WHERE number < 0";

/// Longer than a call needs on a busy machine.
const LONG: Duration = Duration::from_secs(30);

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, sql)
}

/// Opens the connections that read, and uses one of them once: the first query of a connection
/// never runs on the thread of its caller.
async fn readers(options: &DatabaseOptions) -> Pool {
    let readers = options.open_readers().await.unwrap().unwrap();
    readers
        .rows(statement("SELECT 1"), Cost::Short, Plan::ByValues)
        .await
        .unwrap();
    readers
}

/// Inserts this many runs of one skill.
async fn insert_runs(database: &TestDatabase, runs: usize) {
    let db = database.connection().await;
    let sql = format!(
        "WITH RECURSIVE numbers (number) AS (
            SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {runs}
        ) INSERT INTO skill_runs (id, skill_id, caller_id, channel_id, parent_run_id, started_at,
            finished_at, status, tool_calls, runtime_seconds, total_input_tokens,
            total_output_tokens, total_thinking_tokens, inputs, output, error)
            SELECT 'r' || number, 'skill', 'caller', '', NULL, number, NULL,
            'running', 0, 0.0, 0, 0, 0, '{{}}', '', '' FROM numbers"
    );
    execute(&db, &sql).await;
}

#[test]
fn a_query_that_takes_long_does_not_occupy_the_thread_of_its_caller() {
    on_database(Backend::Sqlite, async |database| {
        database.store().await.close().await.unwrap();
        let readers = readers(&DatabaseOptions::new(database.url())).await;
        assert_yields(async move || {
            let sql = ENDLESS.replace("FROM numbers\n", "FROM numbers WHERE number < 2000000\n");
            for cost in [Cost::Short, Cost::Varying, Cost::Varying] {
                let rows = readers.rows(statement(&sql), cost, Plan::ByValues);
                assert!(rows.await.unwrap().is_empty());
            }
        });
    });
}

#[test]
fn many_short_queries_let_other_tasks_run() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        insert_runs(database, 1_000).await;
        assert_yields(async move || {
            for _ in 0..2_000 {
                store.get_run("r1").await.unwrap();
                let filter = RunFilter::new().skill("skill");
                let runs = store.list_runs_filtered(&filter, Page::first(50)).await;
                assert_eq!(runs.unwrap().len(), 50);
            }
        });
    });
}

#[test]
fn a_query_whose_caller_gives_up_is_stopped() {
    on_database(Backend::Sqlite, async |database| {
        database.store().await.close().await.unwrap();
        let options = DatabaseOptions::new(database.url()).max_connections(1);
        let readers = readers(&options).await;
        for cost in [Cost::Short, Cost::Varying, Cost::Long] {
            let endless = readers.rows(statement(ENDLESS), cost, Plan::ByValues);
            timeout(Duration::from_millis(100), endless)
                .await
                .unwrap_err();
            // The only connection is free again.
            let next = readers.rows(statement("SELECT 1"), cost, Plan::ByValues);
            let rows = timeout(LONG, next).await.unwrap().unwrap();
            assert_eq!(rows[0].get::<i64>(0).unwrap(), 1);
        }
    });
}

#[test]
fn a_deadline_stops_a_query() {
    on_database(Backend::Sqlite, async |database| {
        database.store().await.close().await.unwrap();
        let options = DatabaseOptions::new(database.url()).max_connections(1);
        let readers = readers(&options).await;
        let timing = Timing {
            call_timeout: Some(Duration::from_millis(100)),
            ..Timing::default()
        };
        let session = Session::new(&readers, &timing);
        let endless = sea_orm::sea_query::Query::select()
            .expr(sea_orm::sea_query::Expr::cust(format!("({ENDLESS})")))
            .take();
        assert_kind(session.fetch(&endless).await.map(drop), ErrorKind::Timeout);
        let next = readers.rows(statement("SELECT 1"), Cost::Short, Plan::ByValues);
        timeout(LONG, next).await.unwrap().unwrap();
    });
}

#[test]
fn closing_reports_a_query_that_does_not_end() {
    on_database(Backend::Sqlite, async |database| {
        database.store().await.close().await.unwrap();
        let readers = readers(&DatabaseOptions::new(database.url())).await;
        let endless = {
            let readers = readers.clone();
            tokio::spawn(async move {
                readers
                    .rows(statement(ENDLESS), Cost::Long, Plan::ByValues)
                    .await
            })
        };
        sleep(Duration::from_millis(100)).await;
        let deadline = closing_deadline(Some(Duration::from_millis(100)));
        assert_kind(readers.close(deadline).await, ErrorKind::Timeout);
        assert!(
            readers
                .rows(statement("SELECT 1"), Cost::Short, Plan::ByValues)
                .await
                .is_err()
        );
        // Closing fails while the query runs, and succeeds once it is stopped.
        let deadline = closing_deadline(Some(Duration::from_millis(100)));
        assert_kind(readers.close(deadline).await, ErrorKind::Timeout);
        endless.abort();
        let deadline = closing_deadline(Some(LONG));
        let close = || readers.close(deadline);
        let (one, other) = futures_util::join!(close(), close());
        one.and(other).unwrap();
    });
}

#[test]
fn a_query_waits_for_a_lock_without_occupying_a_thread() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        store.close().await.unwrap();
        // Without the write-ahead log, a writer keeps others from reading.
        let db = database.connection().await;
        execute(&db, "PRAGMA journal_mode = DELETE").await;
        let options = DatabaseOptions::new(database.url());
        let patient = readers(&options).await;
        let impatient = readers(&options.busy_timeout(Duration::from_millis(100))).await;
        execute(&db, "BEGIN EXCLUSIVE").await;

        let count = || statement("SELECT COUNT(*) FROM skill_runs");
        let err = impatient
            .rows(count(), Cost::Short, Plan::ByValues)
            .await
            .unwrap_err();
        assert_eq!(DriverErrorKind::of(&err), DriverErrorKind::Busy);

        assert_yields_until_unlocked(db, async move || {
            let rows = patient
                .rows(count(), Cost::Short, Plan::ByValues)
                .await
                .unwrap();
            assert_eq!(rows[0].get::<i64>(0).unwrap(), 1);
        })
        .await;
    });
}

#[test]
fn a_reader_between_two_chunks_does_not_let_the_write_ahead_log_grow() {
    use futures_util::StreamExt;
    use runtrail_audit::{BulkStorage, ListOrder};

    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        insert_runs(database, 1_000).await;
        let mut runs = store.stream_runs(&RunFilter::new(), ListOrder::OldestFirst, Page::ALL);
        runs.next().await.unwrap().unwrap();
        // The first column is 1 if a reader prevents the checkpoint.
        let db = database.connection().await;
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        assert_eq!(fetch::<i64>(&db, checkpoint).await, [0]);
        assert_eq!(runs.count().await, 999);
    });
}

#[test]
fn files_with_unusual_names_are_read() {
    on_database(Backend::Sqlite, async |database| {
        let folder = database.file().parent().unwrap().to_owned();
        for name in [
            "a b", "100%", "%41", "what?", "#1", "äöü", "file:x", "a&b=c",
        ] {
            let file = folder.join(name);
            let encoded = name.replace('%', "%25").replace('?', "%3F");
            let url = |slash: &str, parameters: &str| {
                format!(
                    "sqlite://{slash}{}/{encoded}?{parameters}",
                    folder.display()
                )
            };
            let store = AuditStore::connect(url("", "mode=rwc")).await.unwrap();
            store.initialize().await.unwrap();
            store.start_run(&running("r")).await.unwrap();
            store.get_run("r").await.unwrap();
            store.close().await.unwrap();
            assert!(file.exists(), "{name}");
            for parameters in ["mode=ro", "mode=ro&immutable=1", "immutable=1"] {
                // A path may begin with two slashes.
                for slash in ["", "/"] {
                    let url = url(slash, parameters);
                    let store = AuditStore::connect(&url).await.unwrap();
                    assert_eq!(store.get_run("r").await.unwrap().id, "r", "{url}");
                    let log = folder.join(format!("{name}-wal"));
                    let is_immutable = parameters.contains("immutable");
                    assert!(!is_immutable || !log.exists(), "{url}");
                    store.close().await.unwrap();
                    assert!(!log.exists(), "{url}");
                }
            }
        }
    });
}

#[test]
fn both_ways_of_reading_use_one_copy_of_sqlite() {
    on_database(Backend::Sqlite, async |database| {
        database.store().await.close().await.unwrap();
        let readers = readers(&DatabaseOptions::new(database.url())).await;
        let version = "SELECT sqlite_version() || sqlite_source_id()";
        let rows = readers
            .rows(statement(version), Cost::Short, Plan::ByValues)
            .await
            .unwrap();
        let db = database.connection().await;
        let by_driver: Vec<String> = fetch(&db, version).await;
        assert_eq!(rows[0].get::<String>(0).unwrap(), by_driver[0]);
    });
}

#[test]
fn a_store_finds_its_file_after_a_change_of_the_working_directory() {
    succeeds("child_that_changes_its_working_directory");
}

#[test]
fn a_refused_thread_is_a_typed_error_and_the_next_call_succeeds() {
    succeeds("child_that_may_start_no_thread");
}

fn succeeds(child: &str) {
    let output = test_command(&format!("durability::direct_reads::{child}"))
        // Otherwise a new thread may get the stack of one that has ended.
        .env("GLIBC_TUNABLES", "glibc.pthread.stack_cache_size=0")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && log.contains("1 passed"),
        "{output:?}"
    );
}

#[test]
#[ignore = "a child process of a case above"]
fn child_that_changes_its_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    runtime().block_on(async {
        let options = DatabaseOptions::new("sqlite://runs.db?mode=rwc");
        let store = AuditStore::connect(options).await.unwrap();
        store.initialize().await.unwrap();
        std::env::set_current_dir("/").unwrap();
        // The connections that write and read are opened only now.
        store.start_run(&running("r")).await.unwrap();
        store.get_run("r").await.unwrap();
        store.close().await.unwrap();
    });
    assert!(folder.path().join("runs.db").exists());
}

#[test]
#[ignore = "a child process of a case above"]
fn child_that_may_start_no_thread() {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let url = format!(
            "sqlite://{}?mode=rwc",
            folder.path().join("runs.db").display()
        );
        let store = AuditStore::connect(DatabaseOptions::new(url))
            .await
            .unwrap();
        store.initialize().await.unwrap();
        store.start_run(&running("r")).await.unwrap();

        // Less than the stack of a thread, and enough for all else.
        limit_memory(Some(1 << 20));
        assert_kind(store.get_run("r").await.map(drop), ErrorKind::Backend);
        limit_memory(None);
        store.get_run("r").await.unwrap();
        store.close().await.unwrap();
    });
}

/// Limits how much more memory this process may reserve.
fn limit_memory(bytes: Option<u64>) {
    let limit = bytes.map_or("unlimited".to_owned(), |bytes| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kib = size.and_then(|size| size.split_whitespace().next());
        (kib.unwrap().parse::<u64>().unwrap() * 1024 + bytes).to_string()
    });
    let status = std::process::Command::new("prlimit")
        .arg(format!("--as={limit}:"))
        .args(["--pid", &std::process::id().to_string()])
        .status();
    assert!(status.unwrap().success());
}
