use std::env;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use runtrail_audit::Storage;
use runtrail_migration::Migrator;
use runtrail_store::AuditStore;

use super::counts;
use super::ledger::{Entries, Entry};
use super::sql_client::{History, assert_no_orphans, count, run_sql, settle};
use super::writer::Plan;
use crate::fixture::*;

/// After this many kills, the test uses a new database, since a larger one takes longer to check.
const KILLS_PER_DATABASE: u64 = 25;

fn kill_writers(backend: Backend, kills: u64) {
    let mut acknowledged = 0;
    for first in (0..kills).step_by(KILLS_PER_DATABASE.try_into().unwrap()) {
        on_database(backend, async |database| {
            database.store().await.close().await.unwrap();
            let folder = tempfile::tempdir().unwrap();
            let ledger = folder.path().join("ledger");
            for round in first..kills.min(first + KILLS_PER_DATABASE) {
                // Each process opens the database as the last one left it.
                let process = Plan::endless(&database.url(), &ledger, &format!("r{round}")).spawn();
                if round % 4 > 0 {
                    let before = Entries::read(&ledger).len();
                    eventually(|| (Entries::read(&ledger).len() > before).then_some(()));
                }
                sleep(Duration::from_millis(fastrand::u64(0..300)));
                process.kill();
                settle(&database.url());

                let entries = Entries::read(&ledger);
                entries.assert_no_failure();
                if round == first {
                    // Check this before another program opens the file and perhaps repairs it.
                    assert_opens_without_repair(&database.url(), &entries).await;
                }
                History::read(&database.url()).assert_stores(&entries);
            }
            acknowledged += Entries::read(&ledger).acknowledged();
        });
    }
    eprintln!("{kills} kills on {backend:?}: {acknowledged} acknowledged, 0 lost");
    assert!(acknowledged > kills, "there were too few writes");
}

async fn assert_opens_without_repair(url: &str, entries: &[Entry]) {
    let store = AuditStore::connect(url).await.unwrap();
    for entry in entries {
        if let Entry::Started { id } = entry {
            store.get_run(id).await.unwrap();
        }
    }
    store.close().await.unwrap();
}

#[test]
fn acknowledged_writes_survive_kills_on_sqlite() {
    kill_writers(Backend::Sqlite, counts::kills());
}

#[test]
fn acknowledged_writes_survive_kills_on_postgres() {
    kill_writers(Backend::Postgres, counts::kills_on_postgres());
}

/// Prints a line before it purges every finished run.
#[test]
#[ignore = "a child process of the case below"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_purges() {
    runtime().block_on(async {
        let store = AuditStore::connect(env::var(CHILD_URL).unwrap())
            .await
            .unwrap();
        store.get_run("running").await.unwrap();
        println!("\npurging");
        store.purge_older_than(at(1_000_000)).await.unwrap();
    });
}

on_each_backend! {
    async fn a_killed_purge_leaves_only_whole_runs_and_completes_when_it_is_repeated(database) {
        let url = database.url();
        let store = database.store().await;
        store.start_run(&running("running")).await.unwrap();
        store.append_log(&event("running", 0)).await.unwrap();
        let numbers = match database.backend() {
            Backend::Sqlite => {
                "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE \
                value < 2000)"
            }
            Backend::Postgres => "WITH n(value) AS (SELECT generate_series(1, 2000))",
        };
        let finished = format!(
            "{numbers} INSERT INTO skill_runs \
             (id, skill_id, caller_id, channel_id, inputs, started_at, finished_at, status, \
             output, error, tool_calls, runtime_seconds, total_input_tokens, total_output_tokens, \
             total_thinking_tokens) \
             SELECT 'run ' || value, 's', '', '', '{{}}', value, value, 'ok', '', '', 0, 0, 0, 0, \
             0 FROM n"
        );
        let events = format!(
            "{numbers} INSERT INTO skill_run_logs \
             (run_id, sequence, created_at, event_type, payload) \
             SELECT 'run ' || n.value, s.value, 0, 'x', '1' \
             FROM n, (SELECT 0 AS value UNION SELECT 1 UNION SELECT 2) s"
        );

        let mut half_way = 0;
        for _ in 0..counts::killed_calls() {
            run_sql(&url, &finished);
            run_sql(&url, &events);
            let mut command = test_command("faults::killed::child_that_purges");
            let mut process = Spawned::new(command.env(CHILD_URL, &url).stdout(Stdio::piped()));
            assert!(process.lines().any(|line| line == "purging"));
            sleep(Duration::from_millis(fastrand::u64(0..60)));
            process.kill_unless_ended();
            settle(&url);

            let left = count(&url, "skill_runs") - 1;
            half_way += u64::from(left > 0 && left < 2_000);
            assert_no_orphans(&url);
            assert_eq!(
                count(&url, "skill_run_logs") - 1,
                3 * left,
                "a run is deleted with all its events, or not at all"
            );
            // Repeated, the purge deletes exactly the rest.
            assert_eq!(store.purge_older_than(at(1_000_000)).await.unwrap(), left);
            assert_eq!(count(&url, "skill_runs"), 1);
            assert_eq!(count(&url, "skill_run_logs"), 1);
        }
        eprintln!(
            "{} purges killed on {:?}, {half_way} half way",
            counts::killed_calls(),
            database.backend()
        );
        assert!(half_way > 0);
    }

    async fn a_killed_migration_leaves_nothing_behind_and_completes_when_it_is_repeated(database) {
        let url = database.url();
        let db = database.connection().await;
        // Measures a migration, but not the build of the command, which happens here if nothing has
        // built it yet.
        let mut command = migration_command(&url);
        let begun = Instant::now();
        Spawned::new(command.arg("up")).wait_for_success();
        let time = begun.elapsed();
        let mut ended = 0;
        for _ in 0..counts::killed_calls() {
            Migrator::new().deleting_rows().down(&db, 99).await.unwrap();
            let process = Spawned::new(migration_command(&url).arg("up"));
            sleep(time.mul_f32(fastrand::f32()));
            process.kill_unless_ended();
            settle(&url);
            let made = Migrator::new().up(&db, None).await.unwrap().len();
            // All or nothing.
            assert!([0, runtrail_migration::migrations().len()].contains(&made), "{made}");
            ended += u64::from(made == 0);

            let store = database.store().await;
            store.start_run(&running("r")).await.unwrap();
            store.close().await.unwrap();
            assert_eq!(count(&url, "skill_runs"), 1);
        }
        eprintln!(
            "{} migrations killed on {:?}, {ended} after they had committed",
            counts::killed_calls(),
            database.backend()
        );
        assert!(ended < counts::killed_calls());
    }
}
