//! How much memory a busy store takes, in processes of their own.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use runtrail_store::AuditStore;
use runtrail_store::audit::Storage;

use crate::recorder::{Recorder, mixed};
use crate::report::{Comparison, Unit};
use crate::{Comparisons, Setup, data};

const NAME: &str = "SQLite, memory of 32 busy callers";
const LIMIT: f64 = 60.0;
const CALLERS: usize = 32;
const RUNS: usize = 200;

/// The database and how many callers: what a process that is measured finds in its environment.
const FILE: &str = "RUNTRAIL_BENCH_MEMORY_FILE";
const BUSY: &str = "RUNTRAIL_BENCH_MEMORY_CALLERS";

pub(crate) fn measure(setup: &Setup) -> Result<Comparisons> {
    if !setup.wants(NAME) {
        return Ok(Vec::new());
    }
    let file = setup.file("memory.db");
    let peak = |callers: usize| {
        let output = Command::new(env::current_exe()?)
            .env(FILE, &file)
            .env(BUSY, callers.to_string())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "the measured process failed");
        Ok(String::from_utf8(output.stdout)?.trim().parse::<f64>()? / 1024.0)
    };
    let idle = peak(0)?;
    let ours = peak(CALLERS)? - idle;
    Ok(vec![Comparison {
        workload: NAME.into(),
        ours,
        baseline: "a limit above an idle process".into(),
        theirs: LIMIT,
        unit: Unit::Mebibytes,
        ratio: LIMIT / ours,
        at_least: Some(1.0),
    }])
}

/// A process that is measured.
pub(crate) struct Child {
    file: PathBuf,
    callers: usize,
}

impl Child {
    pub(crate) fn of_this_process() -> Result<Option<Self>> {
        let Some(file) = env::var_os(FILE) else {
            return Ok(None);
        };
        Ok(Some(Self {
            file: file.into(),
            callers: env::var(BUSY)?.parse()?,
        }))
    }

    /// Prints the most memory that this process has had, in KiB.
    pub(crate) async fn run(self) -> Result<()> {
        let payloads = Arc::new(data::payloads()?);
        let store = AuditStore::connect(data::url(&self.file)).await?;
        store.initialize().await?;
        if self.callers > 0 {
            let recorder: Arc<dyn Recorder> = Arc::new(store.clone());
            mixed(&recorder, self.callers, RUNS, &payloads).await?;
        }
        store.close().await?;
        let status = std::fs::read_to_string("/proc/self/status")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.context("no VmHWM")?.trim().trim_end_matches(" kB");
        println!("{peak}");
        Ok(())
    }
}
