//! SQLite on a failing disk. `failing_calls.c`, preloaded into a child process, makes chosen system
//! calls fail as they would on a real disk.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::OnceLock;

use runtrail_audit::{ErrorKind, Result, Storage};
use runtrail_db::discard_open_transactions;
use runtrail_store::AuditStore;
use sea_orm::{ConnectionTrait, Database, TransactionTrait};
use tempfile::TempDir;

use super::counts;
use super::ledger::{Entries, Entry, Ledger};
use super::script::{Script, Write};
use super::sql_client::History;
use super::writer::Plan;
use crate::fixture::*;

/// Returns the library that makes calls fail, and builds it on first use.
fn failing_calls() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (new, library) = (
            folder.join(format!("failing_calls_{}.so", process::id())),
            folder.join("failing_calls.so"),
        );
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/faults/failing_calls.c");
        let mut cc = Command::new(env::var_os("CC").unwrap_or("cc".into()));
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o"])
            .arg(&new)
            .arg("-ldl");
        assert!(cc.status().unwrap().success(), "{cc:?}");
        // Atomically, since another process may be using it.
        fs::rename(&new, &library).unwrap();
        library
    })
}

/// A database on a failing disk, and the files that control the faults.
struct Disk<'a> {
    database: &'a TestDatabase,
    folder: TempDir,
}

impl<'a> Disk<'a> {
    fn new(database: &'a TestDatabase) -> Self {
        Self {
            database,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    fn full(&self) -> PathBuf {
        self.folder.path().join("full")
    }

    fn unsynced(&self) -> PathBuf {
        self.folder.path().join("unsynced")
    }

    fn hit(&self) -> PathBuf {
        self.folder.path().join("hit")
    }

    fn plan(&self) -> Plan {
        Plan::endless(&self.database.url(), &self.ledger(), "r")
    }

    /// Preloads the library into a command, for the files of the database.
    fn preload(&self, mut command: Command) -> Command {
        command
            .env("LD_PRELOAD", failing_calls())
            .env("FAULTS_ON", self.database.file())
            .env("FAULTS_FULL", self.full())
            .env("FAULTS_UNSYNCED", self.unsynced())
            .env("FAULTS_HIT", self.hit());
        command
    }

    fn entries(&self) -> Entries {
        Entries::read(&self.ledger())
    }

    /// Waits until this many more matching entries are in the ledger.
    #[track_caller]
    fn wait_for(&self, more: u64, is_counted: fn(&Entry) -> bool) {
        let before = self.entries().count(is_counted);
        eventually(|| (self.entries().count(is_counted) >= before + more).then_some(()));
    }

    /// Stops the process, and checks what it has stored.
    fn stop(&self, process: Spawned) -> Entries {
        File::create(self.plan().stop_file()).unwrap();
        process.wait_for_success();
        let entries = self.entries();
        History::read(&self.database.url()).assert_stores(&entries);
        entries
    }
}

#[test]
fn a_full_disk_is_reported_and_later_writes_are_durable() {
    on_database(Backend::Sqlite, async |database| {
        let disk = Disk::new(database);
        let process = Spawned::new(&mut disk.preload(disk.plan().command()));
        let rounds = counts::full_disks();
        for _ in 0..rounds {
            disk.wait_for(50, Entry::is_acknowledgement);
            File::create(disk.full()).unwrap();
            disk.wait_for(12, Entry::is_failure);
            fs::remove_file(disk.full()).unwrap();
        }
        disk.wait_for(50, Entry::is_acknowledgement);
        let entries = disk.stop(process);
        entries.assert_failures(|entry| {
            entry.is_failure_of(ErrorKind::StorageFull) && !entry.is_transient_failure()
        });
        eprintln!(
            "{rounds} times full: {} errors reported, {} acknowledged, 0 lost",
            entries.failed(),
            entries.acknowledged()
        );
    });
}

/// By default a commit waits for the disk, so nothing is acknowledged while syncs fail.
#[test]
fn a_write_that_is_not_synced_is_not_acknowledged() {
    on_database(Backend::Sqlite, async |database| {
        let disk = Disk::new(database);
        let plan = Plan {
            retries: false,
            ..disk.plan()
        };
        let process = Spawned::new(&mut disk.preload(plan.command()));
        disk.wait_for(50, Entry::is_acknowledgement);
        File::create(disk.unsynced()).unwrap();
        // By then each of the four tasks has failed at least once, and earlier syncs are
        // acknowledged.
        disk.wait_for(12, Entry::is_failure);
        let acknowledged = disk.entries().acknowledged();
        disk.wait_for(40, Entry::is_failure);
        assert_eq!(disk.entries().acknowledged(), acknowledged);
        fs::remove_file(disk.unsynced()).unwrap();
        disk.wait_for(50, Entry::is_acknowledgement);
        disk.stop(process)
            .assert_failures(|entry| entry.is_failure_of(ErrorKind::Backend));
    });
}

#[test]
fn a_failing_system_call_loses_nothing() {
    /// Opening, migrating and writing make at least this many calls.
    const CALLS: u64 = 200;

    let calls = counts::failing_calls();
    assert!(
        (1..=CALLS).contains(&calls),
        "the number of failing calls is from 1 to {CALLS}"
    );
    let (mut acknowledged, mut failed) = (0, 0);
    // All of them, or evenly spaced ones.
    for number in 0..calls {
        let call = 1 + number * CALLS / calls;
        on_database(Backend::Sqlite, async |database| {
            let disk = Disk::new(database);
            let plan = Plan {
                tasks: 2,
                runs: 12,
                // With retries the store recovers, without them it reports the error.
                retries: number % 2 == 0,
                ..disk.plan()
            };
            let mut command = disk.preload(plan.command());
            command.env("FAULTS_CALL", call.to_string());
            Spawned::new(&mut command).wait_for_success();
            assert!(disk.hit().exists(), "the process made no call {call}");

            let entries = disk.entries();
            let history = History::read(&database.url());
            history.assert_stores(&entries);
            assert_eq!(history.runs.len(), 24, "call {call}");
            acknowledged += entries.acknowledged();
            failed += entries.failed();
        });
    }
    eprintln!(
        "{calls} calls failed: {failed} errors reported, {acknowledged} acknowledged, 0 lost"
    );
    assert!(failed > calls / 10, "hardly any error was reported");
}

#[test]
fn a_file_size_limit_loses_nothing() {
    on_database(Backend::Sqlite, async |database| {
        let disk = Disk::new(database);
        let process = Spawned::new(&mut ignoring_sigxfsz(&disk.plan().command()));
        limit_file_size(process.id(), "300000");
        disk.wait_for(8, Entry::is_failure);
        limit_file_size(process.id(), "unlimited");
        disk.wait_for(50, Entry::is_acknowledgement);
        disk.stop(process);
    });
}

/// Prints the kind of the error that a write gets.
#[test]
#[ignore = "a child process of the case below"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_writes_to_a_read_only_folder() {
    let outcome: Result<()> = runtime().block_on(async {
        let store = AuditStore::connect(env::var(CHILD_URL).unwrap()).await?;
        store.start_run(&running("new")).await
    });
    println!("\nkind {:?}", outcome.unwrap_err().kind());
}

#[test]
fn a_read_only_folder_causes_a_typed_error() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        store.start_run(&running("old")).await.unwrap();
        let error_kind_of = |url: &str, file: &Path| {
            let mut command = Disk::new(database).preload(test_command(
                "faults::disks::child_that_writes_to_a_read_only_folder",
            ));
            command
                .env("FAULTS_READ_ONLY", "1")
                .env("FAULTS_ON", file)
                .env(CHILD_URL, url);
            let printed = Spawned::new(command.stdout(Stdio::piped())).wait_for_success();
            let kind = printed.lines().find_map(|line| line.strip_prefix("kind "));
            kind.unwrap_or_else(|| panic!("{printed}")).to_owned()
        };
        // As a crash leaves it: a write-ahead log that no process has open.
        let crashed = tempfile::tempdir().unwrap();
        let file = crashed.path().join("runtrail.db");
        for suffix in ["", "-wal"] {
            let with_suffix = |file: &Path| PathBuf::from(format!("{}{suffix}", file.display()));
            fs::copy(with_suffix(&database.file()), with_suffix(&file)).unwrap();
        }
        let after_crash = error_kind_of(&format!("sqlite://{}?mode=rwc", file.display()), &file);
        let while_open = error_kind_of(&database.url(), &database.file());
        store.close().await.unwrap();
        let after_close = error_kind_of(&database.url(), &database.file());
        eprintln!(
            "read-only folder: {after_crash} after a crash, {while_open} while it is open, \
            {after_close} after it was closed"
        );
        // If SQLite would have to create a file, it reports that the file can't be opened, which is
        // a `Backend` error.
        for kind in [after_crash, while_open, after_close] {
            assert!(["ReadOnly", "Backend"].contains(&kind.as_str()), "{kind}");
        }
        assert_eq!(History::read(&database.url()).runs.len(), 1);
    });
}

/// A full disk ends a transaction in SQLite, but not in the driver. On a pool that isn't set up as
/// documented, writes after the next dropped transaction would be acknowledged and lost.
#[test]
fn a_hosts_transaction_on_a_full_disk_loses_nothing_on_a_pool_set_up_as_documented() {
    on_database(Backend::Sqlite, async |database| {
        let mut options = sea_orm::ConnectOptions::new(database.url());
        options.max_connections(1).sqlx_logging(false);
        discard_open_transactions(&mut options);
        let host = Database::connect(options).await.unwrap();
        let store = AuditStore::new(host.clone());
        store.initialize().await.unwrap();
        execute(&host, "CREATE TABLE host_things (text TEXT)").await;
        let ledger = Ledger::temporary();
        for round in 0..counts::full_disks() {
            let pages: i64 = fetch(&host, "PRAGMA page_count").await[0];
            execute(&host, &format!("PRAGMA max_page_count = {}", pages + 5)).await;
            let txn = host.begin().await.unwrap();
            let full = loop {
                let large = "INSERT INTO host_things VALUES (hex(randomblob(10000)))";
                if let Err(err) = txn.execute_unprepared(large).await {
                    break err;
                }
            };
            assert!(full.to_string().contains("full"), "{full}");
            drop(txn);
            execute(&host, "PRAGMA max_page_count = 1000000").await;
            drop(host.begin().await.unwrap());
            for number in 0..10 {
                let script = Script::for_run(&format!("{round}-{number}"));
                script.write(&store, Write::Start).await.unwrap();
                ledger.write(&script.entries(Write::Start));
            }
            History::read(&database.url()).assert_stores(&ledger.entries());
        }
        host.close().await.unwrap();
        History::read(&database.url()).assert_stores(&ledger.entries());
    });
}

#[test]
fn writes_to_a_file_that_is_opened_read_only_are_refused() {
    on_database(Backend::Sqlite, async |database| {
        database.store().await.close().await.unwrap();
        let url = database.url().replace("mode=rwc", "mode=ro");
        let read_only = AuditStore::connect(url).await.unwrap();
        let err = assert_kind(
            read_only.start_run(&running("r")).await,
            ErrorKind::ReadOnly,
        );
        assert!(!err.is_transient());
        assert_kind(read_only.get_run("r").await, ErrorKind::NotFound);
    });
}
