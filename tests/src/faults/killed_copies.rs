use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use super::counts;
use super::ledger::Entries;
use super::sql_client::{History, count, settle};
use super::writer::Plan;
use crate::fixture::*;

fn kill_copies(from: Backend, to: Backend) {
    on_databases([from, to], async |[from, to]| {
        for database in [from, to] {
            database.store().await.close().await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let copy = |arguments: &[&str]| -> Command {
            let mut command = runtrail_command(folder.path());
            command.args(["copy", "--from", &from.url(), "--to", &to.url()]);
            command.args(arguments);
            command
        };
        let plan = Plan {
            // Slow enough for a copy to catch up.
            pace: Duration::from_millis(2),
            ..Plan::endless(&from.url(), &folder.path().join("ledger"), "r")
        };
        let writer = plan.spawn();
        // Wait for several pages of runs to copy.
        eventually_within(4 * PATIENCE, || {
            (count(&from.url(), "skill_runs") > 3_000).then_some(())
        });
        let events_copied = || count(&to.url(), "skill_run_logs");
        let (mut killed, mut half_way) = (0, 0);
        while killed < counts::killed_copies() {
            let before = events_copied();
            let process = Spawned::new(&mut copy(&[]));
            if killed % 2 > 0 {
                eventually_within(4 * PATIENCE, || (events_copied() > before).then_some(()));
            }
            sleep(Duration::from_millis(fastrand::u64(0..100)));
            if process.kill_unless_ended() {
                settle(&to.url());
                killed += 1;
                half_way += u64::from(events_copied() > before);
            }
        }
        // One complete copy alongside the writer, and a final one after it.
        Spawned::new(&mut copy(&[])).wait_for_success();
        fs::write(plan.stop_file(), "").unwrap();
        writer.wait_for_success();
        let report = Spawned::new(&mut copy(&["--final"])).wait_for_success();

        let entries = Entries::read(&plan.ledger);
        entries.assert_no_failure();
        let (source, target) = (History::read(&from.url()), History::read(&to.url()));
        target.assert_stores(&entries);
        assert!(source.runs == target.runs && source.events == target.events);
        let (runs, events) = (source.runs.len(), source.events.len());
        let compared = format!("compared {runs} runs and {events} events");
        assert!(report.replace(',', "").contains(&compared), "{report}");
        eprintln!(
            "{killed} copies killed from {:?} to {:?}, {half_way} of them after a write: {} \
            acknowledged, 0 lost",
            from.backend(),
            to.backend(),
            entries.acknowledged()
        );
    });
}

#[test]
fn killed_copies_from_sqlite_to_postgres_complete_when_repeated() {
    kill_copies(Backend::Sqlite, Backend::Postgres);
}

#[test]
fn killed_copies_from_postgres_to_sqlite_complete_when_repeated() {
    kill_copies(Backend::Postgres, Backend::Sqlite);
}
