//! Writers: tasks of this process, or of a child process that can be killed.

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtrail_audit::{Error, ErrorKind, Result, Storage};
use runtrail_db::{DatabaseOptions, Retry};
use runtrail_store::AuditStore;
use serde::{Deserialize, Serialize};

use super::ledger::{Entry, Ledger};
use super::script::{Script, Write};
use crate::fixture::*;

/// How long a call waits for a connection when many tasks start at once.
///
/// In a debug build, authentication takes 0.25 s of CPU time for each connection to PostgreSQL. On a
/// busy machine, eight connections then take longer than the default timeout.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens a store for many tasks.
pub(super) async fn store_for_many_tasks(database: &TestDatabase) -> AuditStore {
    let options = DatabaseOptions::new(database.url()).acquire_timeout(ACQUIRE_TIMEOUT);
    let store = AuditStore::connect(options).await.unwrap();
    store.initialize().await.unwrap();
    store
}

/// A task that writes runs. It records each error, and retries.
pub(super) struct Writer<'a> {
    pub(super) store: &'a AuditStore,
    pub(super) ledger: &'a Ledger,
}

impl Writer<'_> {
    /// Writes a run with its events, finishes it, and returns the duration of each successful call.
    pub(super) async fn write(&self, id: &str) -> Vec<Duration> {
        let script = Script::for_run(id);
        let mut times = Vec::new();
        for write in Write::ALL {
            times.push(self.write_until_ok(&script, write).await);
        }
        times
    }

    async fn write_until_ok(&self, script: &Script, write: Write) -> Duration {
        let give_up = Instant::now() + Duration::from_secs(180);
        while Instant::now() < give_up {
            let begun = Instant::now();
            match script.write(self.store, write).await {
                Ok(()) => {
                    let took = begun.elapsed();
                    self.ledger.write(&script.entries(write));
                    return took;
                }
                Err(err) => record_failure(self.ledger, &err).await,
            }
        }
        panic!("a write never succeeds");
    }
}

async fn record_failure(ledger: &Ledger, err: &Error) {
    let is_of_the_database = matches!(
        err.kind(),
        ErrorKind::Backend
            | ErrorKind::Busy
            | ErrorKind::Timeout
            | ErrorKind::StorageFull
            | ErrorKind::ReadOnly
    );
    assert!(is_of_the_database, "no fault explains {err:?}");
    ledger.write(&[Entry::failed(err)]);
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// The work of a process that writes.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) url: String,
    /// The ledger. The process stops once a file next to it exists whose name ends in `.stop`.
    pub(super) ledger: PathBuf,
    /// The prefix of all ids.
    pub(super) prefix: String,
    pub(super) tasks: u64,
    /// Runs that each task writes.
    pub(super) runs: u64,
    /// The least time that a task takes for a run.
    pub(super) pace: Duration,
    /// Whether the store retries transient failures.
    pub(super) retries: bool,
    /// How long a call waits for a free connection; `None` is the library's default.
    pub(super) acquire_timeout: Option<Duration>,
}

const PLAN: &str = "RUNTRAIL_TEST_PLAN";

impl Plan {
    /// Four tasks that write until they are stopped.
    pub(super) fn endless(url: &str, ledger: &Path, prefix: &str) -> Self {
        Self {
            url: url.into(),
            ledger: ledger.into(),
            prefix: prefix.into(),
            tasks: 4,
            runs: u64::MAX,
            pace: Duration::ZERO,
            retries: true,
            acquire_timeout: None,
        }
    }

    /// Returns the command of the process.
    pub(super) fn command(&self) -> Command {
        self.command_of(&env::current_exe().unwrap())
    }

    fn command_of(&self, suite: &Path) -> Command {
        let mut command = test_command_of(suite, "faults::writer::child_that_writes");
        command
            .env(PLAN, serde_json::to_string(self).unwrap())
            .stdout(Stdio::piped());
        command
    }

    pub(super) fn spawn(&self) -> Spawned {
        Spawned::new(&mut self.command())
    }

    /// Like [`spawn`](Self::spawn), from a test binary of another version.
    pub(super) fn spawn_by(&self, suite: &OsStr) -> Spawned {
        Spawned::new(&mut self.command_of(Path::new(suite)))
    }

    pub(super) fn stop_file(&self) -> PathBuf {
        self.ledger.with_extension("stop")
    }

    async fn open(&self) -> Result<AuditStore> {
        let mut options = DatabaseOptions::new(self.url.as_str());
        if let Some(timeout) = self.acquire_timeout {
            options = options.acquire_timeout(timeout);
        }
        let store = AuditStore::connect(options).await?;
        let store = if self.retries {
            store
        } else {
            store.with_retry(Retry::never())
        };
        store.initialize().await?;
        Ok(store)
    }

    async fn run(&self) {
        // The parent may be killed too.
        let parent = parent_id();
        let ledger = Ledger::open(&self.ledger);
        let store = loop {
            match self.open().await {
                Ok(store) => break store,
                Err(err) => record_failure(&ledger, &err).await,
            }
        };
        let work = async |task: u64| {
            let writer = Writer {
                store: &store,
                ledger: &ledger,
            };
            let mut times = Vec::new();
            for number in 0..self.runs {
                if self.stop_file().exists() || parent_id() != parent {
                    break;
                }
                let id = format!("{}-{task}-{number}", self.prefix);
                let pace = tokio::time::sleep(self.pace);
                let (durations, ()) = futures_util::future::join(writer.write(&id), pace).await;
                times.extend(durations);
            }
            times
        };
        let times = futures_util::future::join_all((0..self.tasks).map(work)).await;
        store.close().await.unwrap();
        print_times(times.concat());
    }
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn print_times(times: Vec<Duration>) {
    println!("\n{}", summary(times));
}

/// Describes durations by their median, 99th percentile and maximum.
pub(super) fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    let last = times.len().saturating_sub(1);
    let at = |percent: usize| times.get(last * percent / 100).copied().unwrap_or_default();
    format!(
        "{} calls, half of them within {:.1?}, p99 {:.1?}, the slowest {:.1?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    )
}

#[test]
#[ignore = "a child process of other cases"]
fn child_that_writes() {
    let plan: Plan = serde_json::from_str(&env::var(PLAN).unwrap()).unwrap();
    runtime().block_on(plan.run());
}
