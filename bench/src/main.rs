//! Compares Runtrail with hand-written code, with the Go design that it follows, and with plain
//! SeaORM.
//!
//! Run it with `cargo xtask bench`; `bench/README.md` contains the latest results.
#![expect(
    clippy::future_not_send,
    reason = "only the concurrent callers are spawned"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a command"
)]

mod by_hand;
mod child;
mod clock;
mod copying;
mod data;
mod go_design;
mod http;
mod memory;
mod orm;
mod peers;
mod postgres_by_hand;
mod reads;
mod received;
mod receivers;
mod recorder;
mod report;
mod rounds;
mod statistics;
mod watching;
mod writes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use runtrail_test_servers::{Cluster, install_missing_programs};
use serde_json::Value;

use crate::data::History;
use crate::report::Comparison;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json");

#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Cli {
    /// Read from a million runs instead of 100,000, which needs a few GiB of disk space.
    #[arg(long)]
    large: bool,
    /// Take about a minute, with 10,000 runs and few rounds. The ratios mean little.
    #[arg(long, conflicts_with = "large")]
    quick: bool,
    /// Compare with Dagster, DBOS and Phoenix, from PyPI, and with nothing else.
    #[arg(long, conflicts_with = "large")]
    peers: bool,
    /// The number of rounds.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Run only workloads whose names contain this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Also write the results to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Use this empty PostgreSQL database. By default, a server is started.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Save these ratios as the baseline for later runs.
    #[arg(long)]
    keep: bool,
}

/// The settings and data shared by all workloads.
struct Setup {
    folder: tempfile::TempDir,
    postgres: String,
    payloads: Arc<Vec<Value>>,
    rounds: usize,
    only: String,
    /// The history that is in the store before the write workloads.
    written: History,
    /// The history for the read workloads.
    read: History,
}

impl Setup {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn is_selected(&self, workload: &str) -> bool {
        workload.contains(&self.only)
    }

    /// Whether a workload whose name starts with `prefix` may be selected.
    fn may_be_selected(&self, prefix: &str) -> bool {
        prefix.contains(&self.only) || self.only.contains(prefix)
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    if let Some(child) = child::Child::from_env()? {
        return child.run().await;
    }
    let cli = Cli::parse();
    let history = |runs, events| History { runs, events };
    let server = match cli.postgres {
        None if !cli.peers => {
            install_missing_programs()?;
            Some(Cluster::start(&[
                "max_connections=200",
                "shared_buffers=512MB",
                "max_wal_size=8GB",
            ])?)
        }
        _ => None,
    };
    let setup = Setup {
        folder: tempfile::tempdir()?,
        postgres: cli
            .postgres
            .or_else(|| server.as_ref().map(Cluster::url))
            .unwrap_or_default(),
        payloads: Arc::new(data::payloads()?),
        rounds: cli.rounds.unwrap_or(if cli.quick { 3 } else { 7 }),
        only: cli.only,
        written: history(if cli.quick { 10_000 } else { 100_000 }, 10),
        read: match (cli.large, cli.quick) {
            (true, _) => history(1_000_000, 2),
            (_, true) => history(10_000, 10),
            _ => history(100_000, 10),
        },
    };

    let comparisons = match cli.peers {
        true => peers::measure(&setup).await?,
        false => measure_all(&setup).await?,
    };

    let baseline = report::load_baseline(Path::new(BASELINE))?;
    println!("{}", report::table(&comparisons, &baseline));
    if let Some(file) = cli.json {
        report::write(&file, &comparisons)?;
    }
    if cli.keep {
        report::save_baseline(Path::new(BASELINE), &comparisons)?;
    }
    Ok(())
}

async fn measure_all(setup: &Setup) -> Result<Comparisons> {
    let mut comparisons = writes::measure(setup).await?;
    comparisons.extend(reads::measure(setup).await?);
    comparisons.extend(received::measure(setup).await?);
    comparisons.extend(memory::measure(setup)?);
    comparisons.extend(copying::measure(setup).await?);
    Ok(comparisons)
}

/// Prints a step and its duration to stderr.
async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let begun = Instant::now();
    let outcome = work.await.with_context(|| name.to_owned());
    eprintln!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
    outcome
}

type Comparisons = Vec<Comparison>;
