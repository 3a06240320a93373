//! SQLite on a disk that fails. `failing_calls.c`, preloaded into a process of its own, makes the system's calls fail
//! as a real disk would, at exactly the call that is wanted.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::OnceLock;

use runtrail_audit::{Error, ErrorKind, Storage};
use runtrail_store::AuditStore;
use tempfile::TempDir;

use super::counts;
use super::ledger::{Entry, Ledger};
use super::outside::History;
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
            .env("FAULTS_HIT", self.hit());
        command
    }

    fn entries(&self) -> Vec<Entry> {
        Ledger::read(&self.ledger())
    }

    /// Waits until so many more entries of this sort have been written.
    #[track_caller]
    fn wait_for(&self, more: usize, sort: impl Fn(&Entry) -> bool) {
        let count = || {
            self.entries()
                .into_iter()
                .filter(|entry| sort(entry))
                .count()
        };
        let before = count();
        eventually(|| (count() >= before + more).then_some(()));
    }

    /// Lets the process come to its end, and looks at what it leaves.
    fn stop(&self, process: Spawned) -> Vec<Entry> {
        File::create(self.plan().stop_file()).unwrap();
        process.succeeds();
        let entries = self.entries();
        History::read(&self.database.url()).assert_keeps(&entries);
        entries
    }
}

fn is_failure(entry: &Entry) -> bool {
    !entry.is_acknowledgement()
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
            disk.wait_for(12, is_failure);
            fs::remove_file(disk.full()).unwrap();
        }
        disk.wait_for(50, Entry::is_acknowledgement);
        let entries = disk.stop(process);

        let full = Entry::Failed {
            kind: format!("{:?}", ErrorKind::StorageFull),
            transient: false,
        };
        for entry in &entries {
            assert!(entry.is_acknowledgement() || *entry == full, "{entry:?}");
        }
        eprintln!(
            "{rounds} times full: {} acknowledged, 0 lost",
            entries
                .iter()
                .filter(|entry| entry.is_acknowledgement())
                .count()
        );
    });
}

#[test]
fn a_call_of_the_system_that_fails_loses_nothing() {
    /// So many are made by opening, migrating and writing.
    const CALLS: u64 = 200;

    let calls = counts::failing_calls().min(CALLS);
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
            Spawned::new(&mut command).succeeds();
            assert!(disk.hit().exists(), "there was no call {call}");

            let entries = disk.entries();
            let history = History::read(&database.url());
            history.assert_keeps(&entries);
            assert_eq!(history.runs.len(), 24, "call {call}");
            acknowledged += entries
                .iter()
                .filter(|entry| entry.is_acknowledgement())
                .count();
            failed += entries.iter().filter(|entry| is_failure(entry)).count();
        });
    }
    eprintln!("{calls} calls failed: {failed} errors told, {acknowledged} acknowledged, 0 lost");
    assert!(failed as u64 > calls / 10, "hardly any error was told");
}

#[test]
fn a_file_that_may_not_grow_loses_nothing() {
    on_database(Backend::Sqlite, async |database| {
        let disk = Disk::of(database);
        let plan = disk.plan().command();
        // Writing too much is then an error, and not the end of the process.
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                r#"trap "" XFSZ; exec prlimit --fsize=300000: "$@""#,
                "sh",
            ])
            .arg(plan.get_program())
            .args(plan.get_args())
            .envs(
                plan.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let process = Spawned::new(&mut command);
        disk.wait_for(8, is_failure);
        let raised = Command::new("prlimit")
            .args(["--fsize=unlimited:", "--pid", &process.id().to_string()])
            .status();
        assert!(raised.unwrap().success());
        disk.wait_for(50, Entry::is_acknowledgement);
        disk.stop(process);
    });
}

/// Says what it is told of a database that can't be written to.
#[test]
#[ignore = "a child process of the case below"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_may_only_read() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let told: Result<(), Error> = runtime.block_on(async {
        let store = AuditStore::connect(env::var("FAULTS_URL").unwrap()).await?;
        store.start_run(&running("new")).await
    });
    println!("\ntold {:?}", told.unwrap_err().kind());
}

#[test]
fn a_read_only_folder_is_a_typed_error() {
    on_database(Backend::Sqlite, async |database| {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        store.start_run(&running("old")).await.unwrap();
        // The second time the log is still there, as after a crash.
        for is_open in [true, false] {
            let disk = Disk::of(database);
            let mut command = disk.preload(test_command("faults::disks::child_that_may_only_read"));
            command
                .env("FAULTS_READ_ONLY", "1")
                .env("FAULTS_URL", database.url());
            let printed = Spawned::new(command.stdout(Stdio::piped())).succeeds();
            let kind = printed.lines().find_map(|line| line.strip_prefix("told "));
            assert!(matches!(kind, Some("ReadOnly" | "Backend")), "{printed}");
            if is_open {
                store.clone().close().await.unwrap();
            }
        }
        assert_eq!(History::read(&database.url()).runs.len(), 1);
    });
}

#[test]
fn a_file_that_is_opened_read_only_says_so() {
    on_database(Backend::Sqlite, async |database| {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
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
