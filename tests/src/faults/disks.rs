//! SQLite on a disk that fails. `failing_calls.c`, preloaded into a process of its own, makes the system's calls fail
//! as a real disk would, at exactly the call that is wanted.

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
use super::outside::History;
use super::script::{Script, Write};
use super::writer::Plan;
use crate::fixture::*;

/// The library that makes calls fail; built on first use.
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
        // At once, as another process may be using it.
        fs::rename(&new, &library).unwrap();
        library
    })
}

/// A database, the ledger of a process that writes to it, and the file whose presence fills the disk.
struct Disk<'a> {
    database: &'a TestDatabase,
    folder: TempDir,
}

impl<'a> Disk<'a> {
    fn of(database: &'a TestDatabase) -> Self {
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

    /// The command, with calls on the files of the database that may fail.
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

    /// Waits until so many more entries of this sort have been written.
    #[track_caller]
    fn wait_for(&self, more: u64, is_of_sort: fn(&Entry) -> bool) {
        let before = self.entries().count(is_of_sort);
        eventually(|| (self.entries().count(is_of_sort) >= before + more).then_some(()));
    }

    /// Lets the process come to its end, and looks at what it leaves.
    fn stop(&self, process: Spawned) -> Entries {
        File::create(self.plan().stop_file()).unwrap();
        process.wait_for_success();
        let entries = self.entries();
        History::read(&self.database.url()).assert_keeps(&entries);
        entries
    }
}

#[test]
fn a_full_disk_is_named_and_later_writes_are_kept() {
    on_database(Backend::Sqlite, async |database| {
        let disk = Disk::of(database);
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
            "{rounds} times full: {} errors told, {} acknowledged, 0 lost",
            entries.failed(),
            entries.acknowledged()
        );
    });
}

/// By default a commit waits for the disk, and so nothing is acknowledged while that fails.
#[test]
fn what_is_not_on_the_disk_is_not_acknowledged() {
    on_database(Backend::Sqlite, async |database| {
        let disk = Disk::of(database);
        let plan = Plan {
            retries: false,
            ..disk.plan()
        };
        let process = Spawned::new(&mut disk.preload(plan.command()));
        disk.wait_for(50, Entry::is_acknowledgement);
        File::create(disk.unsynced()).unwrap();
        // What had been synced just before is acknowledged by then: each of the four tasks has failed once at least.
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
fn a_call_of_the_system_that_fails_loses_nothing() {
    /// So many are made by opening, migrating and writing.
    const CALLS: u64 = 200;

    let calls = counts::failing_calls();
    assert!((1..=CALLS).contains(&calls), "there are {CALLS} calls");
    let (mut acknowledged, mut failed) = (0, 0);
    // All of them, or some all over.
    for number in 0..calls {
        let call = 1 + number * CALLS / calls;
        on_database(Backend::Sqlite, async |database| {
            let disk = Disk::of(database);
            let plan = Plan {
                tasks: 2,
                runs: 12,
                // The error is told, or it is mended by another try.
                retries: number % 2 == 0,
                ..disk.plan()
            };
            let mut command = disk.preload(plan.command());
            command.env("FAULTS_CALL", call.to_string());
            Spawned::new(&mut command).wait_for_success();
            assert!(disk.hit().exists(), "there was no call {call}");

            let entries = disk.entries();
            let history = History::read(&database.url());
            history.assert_keeps(&entries);
            assert_eq!(history.runs.len(), 24, "call {call}");
            acknowledged += entries.acknowledged();
            failed += entries.failed();
        });
    }
    eprintln!("{calls} calls failed: {failed} errors told, {acknowledged} acknowledged, 0 lost");
    assert!(failed > calls / 10, "hardly any error was told");
}

#[test]
fn a_file_that_may_not_grow_loses_nothing() {
    on_database(Backend::Sqlite, async |database| {
        let disk = Disk::of(database);
        let process = Spawned::new(&mut ignoring_sigxfsz(&disk.plan().command()));
        limit_file_size(process.id(), "300000");
        disk.wait_for(8, Entry::is_failure);
        limit_file_size(process.id(), "unlimited");
        disk.wait_for(50, Entry::is_acknowledgement);
        disk.stop(process);
    });
}

/// Says what it is told of a database that can't be written to.
#[test]
#[ignore = "a child process of the case below"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_may_only_read() {
    let told: Result<()> = runtime().block_on(async {
        let store = AuditStore::connect(env::var(CHILD_URL).unwrap()).await?;
        store.start_run(&running("new")).await
    });
    println!("\ntold {:?}", told.unwrap_err().kind());
}

#[test]
fn a_read_only_folder_is_a_typed_error() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        store.start_run(&running("old")).await.unwrap();
        let told_of = |url: &str, file: &Path| {
            let mut command =
                Disk::of(database).preload(test_command("faults::disks::child_that_may_only_read"));
            command
                .env("FAULTS_READ_ONLY", "1")
                .env("FAULTS_ON", file)
                .env(CHILD_URL, url);
            let printed = Spawned::new(command.stdout(Stdio::piped())).wait_for_success();
            let kind = printed.lines().find_map(|line| line.strip_prefix("told "));
            kind.unwrap_or_else(|| panic!("{printed}")).to_owned()
        };
        // What a crash leaves: a log that nobody has open.
        let crashed = tempfile::tempdir().unwrap();
        let file = crashed.path().join("runtrail.db");
        for suffix in ["", "-wal"] {
            let of_crash = |file: &Path| PathBuf::from(format!("{}{suffix}", file.display()));
            fs::copy(of_crash(&database.file()), of_crash(&file)).unwrap();
        }
        let after_crash = told_of(&format!("sqlite://{}?mode=rwc", file.display()), &file);
        let while_open = told_of(&database.url(), &database.file());
        store.close().await.unwrap();
        let after_close = told_of(&database.url(), &database.file());
        eprintln!(
            "read-only folder: {after_crash} after a crash, {while_open} while it is open, {after_close} else"
        );
        // SQLite says that it can't open what it would have to make.
        for kind in [after_crash, while_open, after_close] {
            assert!(["ReadOnly", "Backend"].contains(&kind.as_str()), "{kind}");
        }
        assert_eq!(History::read(&database.url()).runs.len(), 1);
    });
}

/// A full disk ends a transaction in SQLite, but not in the driver: on a pool that isn't made as documented, what is
/// written after the next one that is dropped would be acknowledged and lost.
#[test]
fn a_hosts_transaction_on_a_full_disk_loses_nothing_on_a_pool_made_as_documented() {
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
                let script = Script::of(&format!("{round}-{number}"));
                script.write(&store, Write::Start).await.unwrap();
                ledger.write(&script.entries(Write::Start));
            }
            History::read(&database.url()).assert_keeps(&ledger.entries());
        }
        host.close().await.unwrap();
        History::read(&database.url()).assert_keeps(&ledger.entries());
    });
}

#[test]
fn a_file_that_is_opened_read_only_says_so() {
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
