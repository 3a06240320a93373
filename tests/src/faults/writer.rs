//! Writers: tasks of this process, or of one that can be killed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtrail_audit::{BulkStorage, Error, ErrorKind, Result, Storage};
use runtrail_store::{AuditStore, Retry};
use serde::{Deserialize, Serialize};

use super::ledger::{Entry, Ledger};
use super::script;
use crate::fixture::*;

/// One task that writes runs, and does nothing about an error but to note it and to try again.
pub(super) struct Writer<'a> {
    pub(super) store: &'a AuditStore,
    pub(super) ledger: &'a Ledger,
}

impl Writer<'_> {
    /// Writes a run with its events, and finishes it; how long each call took, until it was acknowledged.
    pub(super) async fn write(&self, id: &str) -> Vec<Duration> {
        let Self { store, .. } = *self;
        let (run, stats) = (script::run(id), script::stats(id));
        let events: Vec<_> = (0..script::EVENTS)
            .map(|sequence| script::event(id, sequence))
            .collect();
        let appended: Vec<_> = (0..script::EVENTS)
            .map(|sequence| Entry::appended(id, sequence))
            .collect();
        vec![
            self.until_ok(&[Entry::started(id)], || store.start_run(&run))
                .await,
            self.until_ok(&appended[..1], || store.append_log(&events[0]))
                .await,
            self.until_ok(&appended[1..], || store.append_logs(&events[1..]))
                .await,
            self.until_ok(&[Entry::finished(id)], || store.finish_run(id, &stats))
                .await,
        ]
    }

    async fn until_ok<F>(&self, acknowledged: &[Entry], mut call: impl FnMut() -> F) -> Duration
    where
        F: Future<Output = Result<()>>,
    {
        loop {
            let begun = Instant::now();
            match call().await {
                Ok(()) => {
                    let took = begun.elapsed();
                    self.ledger.write(acknowledged);
                    return took;
                }
                Err(err) => note(self.ledger, &err).await,
            }
        }
    }
}

async fn note(ledger: &Ledger, err: &Error) {
    let is_of_the_database = matches!(
        err.kind(),
        ErrorKind::Backend
            | ErrorKind::Busy
            | ErrorKind::Timeout
            | ErrorKind::StorageFull
            | ErrorKind::ReadOnly
    );
    assert!(is_of_the_database, "no fault makes a call say {err:?}");
    ledger.write(&[Entry::failed(err)]);
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// What a process that writes has to do.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) url: String,
    /// Where it says what was acknowledged. It stops when there is a file beside it that ends in `.stop`.
    pub(super) ledger: PathBuf,
    /// What its ids begin with.
    pub(super) prefix: String,
    pub(super) tasks: u64,
    /// Runs that each task writes.
    pub(super) runs: u64,
    /// The least time that a run takes, in milliseconds.
    pub(super) pace: u64,
    /// Whether the store tries again by itself what fails in passing.
    pub(super) retries: bool,
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
            pace: 0,
            retries: true,
        }
    }

    /// The process that does it.
    pub(super) fn command(&self) -> Command {
        let mut command = test_command("faults::writer::child_that_writes");
        command
            .env(PLAN, serde_json::to_string(self).unwrap())
            .stdout(Stdio::piped());
        command
    }

    pub(super) fn spawn(&self) -> Spawned {
        Spawned::new(&mut self.command())
    }

    pub(super) fn stop_file(&self) -> PathBuf {
        self.ledger.with_extension("stop")
    }

    async fn open(&self) -> Result<AuditStore> {
        let store = AuditStore::connect(self.url.as_str()).await?;
        let store = if self.retries {
            store
        } else {
            store.with_retry(Retry::never())
        };
        store.initialize().await?;
        Ok(store)
    }

    async fn carry_out(&self) {
        let ledger = Ledger::open(&self.ledger);
        let store = loop {
            match self.open().await {
                Ok(store) => break store,
                Err(err) => note(&ledger, &err).await,
            }
        };
        let work = async |task: u64| {
            let writer = Writer {
                store: &store,
                ledger: &ledger,
            };
            let mut times = Vec::new();
            for number in 0..self.runs {
                if self.stop_file().exists() {
                    break;
                }
                let pace = tokio::time::sleep(Duration::from_millis(self.pace));
                let id = format!("{}-{task}-{number}", self.prefix);
                times.extend(writer.write(&id).await);
                if self.pace > 0 {
                    pace.await;
                }
            }
            times
        };
        let times = futures_util::future::join_all((0..self.tasks).map(work)).await;
        store.close().await.unwrap();
        print_times(&self.prefix, times.concat());
    }
}

/// How long calls took: the half of them, and all but the slowest of a hundred.
#[expect(clippy::print_stdout, reason = "for who runs the fault suite")]
pub(super) fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let Some(last) = times.last() else {
        return;
    };
    let at = |percent: usize| times[times.len() * percent / 100];
    println!(
        "{what}: {} calls, half of them within {:.1?}, p99 {:.1?}, the slowest {:.1?}",
        times.len(),
        at(50),
        at(99),
        last
    );
}

#[test]
#[ignore = "a child process of other cases"]
fn child_that_writes() {
    let plan: Plan = serde_json::from_str(&env::var(PLAN).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(plan.carry_out());
}
