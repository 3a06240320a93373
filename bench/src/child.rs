//! Child processes, so that the peak memory of one workload can be measured.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use runtrail_audit::Storage;
use runtrail_copy::HistoryCopy;
use runtrail_store::AuditStore;
use serde::{Deserialize, Serialize};

use crate::data;
use crate::recorder::{Recorder, mixed_writes};

/// The work of a child process, passed in an environment variable.
#[derive(Serialize, Deserialize)]
pub(crate) enum Child {
    /// Records `runs` runs for each of `callers` concurrent callers.
    Record {
        file: PathBuf,
        callers: usize,
        runs: usize,
    },
    /// Copies a history, and optionally verifies the copy.
    Copy {
        from: String,
        to: String,
        verifies: bool,
    },
}

/// The result of a child process.
#[derive(Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    /// The peak memory of the process.
    pub(crate) mebibytes: f64,
    /// The digests of source and target, if the copy was verified.
    pub(crate) digests: Option<(String, String)>,
}

const CHILD: &str = "RUNTRAIL_BENCH_CHILD";

impl Child {
    pub(crate) fn from_env() -> Result<Option<Self>> {
        match env::var(CHILD) {
            Ok(child) => Ok(Some(serde_json::from_str(&child)?)),
            Err(_) => Ok(None),
        }
    }

    /// Runs the work in a child process.
    pub(crate) fn measure(&self) -> Result<Outcome> {
        let output = Command::new(env::current_exe()?)
            .env(CHILD, serde_json::to_string(self)?)
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "the measured process failed");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    pub(crate) async fn run(self) -> Result<()> {
        let begun = Instant::now();
        let digests = match self {
            Self::Record {
                file,
                callers,
                runs,
            } => record(file, callers, runs).await.map(|()| None)?,
            Self::Copy { from, to, verifies } => copy(&from, &to, verifies).await?,
        };
        let seconds = begun.elapsed().as_secs_f64();
        let outcome = Outcome {
            seconds,
            mebibytes: peak_mebibytes("self")?,
            digests,
        };
        println!("{}", serde_json::to_string(&outcome)?);
        Ok(())
    }
}

/// Returns the peak memory of a process, by its id.
pub(crate) fn peak_mebibytes(process: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.context("no VmHWM")?.trim().trim_end_matches(" kB");
    Ok(peak.parse::<f64>()? / 1024.0)
}

async fn record(file: PathBuf, callers: usize, runs: usize) -> Result<()> {
    let payloads = Arc::new(data::payloads()?);
    let store = AuditStore::connect(data::url(&file)).await?;
    store.initialize().await?;
    if callers > 0 {
        let recorder: Arc<dyn Recorder> = Arc::new(store.clone());
        mixed_writes(&recorder, callers, runs, &payloads).await?;
    }
    store.close().await?;
    Ok(())
}

async fn copy(from: &str, to: &str, verifies: bool) -> Result<Option<(String, String)>> {
    let source = AuditStore::connect(from).await?;
    let target = AuditStore::connect(to).await?;
    target.initialize().await?;
    let copy = HistoryCopy::new(source, target.clone()).last();
    let copy = match verifies {
        true => copy.verified(),
        false => copy.unverified(),
    };
    let summary = copy.run(&|_| {}).await?;
    ensure!(summary.is_complete(), "{summary:?}");
    target.close().await?;
    let digests = summary
        .verified
        .map(|verified| (verified.source.to_string(), verified.target.to_string()));
    Ok(digests)
}
