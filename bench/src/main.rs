//! Runtrail beside the same work done by hand, by the design that it follows, and by SeaORM used plainly.
//!
//! `cargo xtask bench` runs it; `bench/README.md` has its last table.
#![expect(clippy::future_not_send, reason = "only what callers do is spawned")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a command"
)]

mod by_hand;
mod child;
mod copying;
mod data;
mod go_design;
mod memory;
mod orm;
mod postgres_by_hand;
mod reads;
mod recorder;
mod report;
mod rounds;
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
    /// Measure what is read with a million runs, which takes some GiB of disk; without it with 100,000.
    #[arg(long)]
    large: bool,
    /// A look that takes a minute: 10,000 runs, few rounds. Its ratios mean little.
    #[arg(long, conflicts_with = "large")]
    quick: bool,
    /// How many turns everybody has.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Only the workloads whose names contain this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Write what was measured to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// An empty PostgreSQL database to measure on; by default a server is started for it.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Keep these ratios as those that later runs are compared with.
    #[arg(long)]
    keep: bool,
}

/// What every workload works with.
struct Setup {
    folder: tempfile::TempDir,
    postgres: String,
    payloads: Arc<Vec<Value>>,
    rounds: usize,
    only: String,
    /// What is in the store while it is written to.
    written: History,
    /// What is read.
    read: History,
}

impl Setup {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wants(&self, workload: &str) -> bool {
        workload.contains(&self.only)
    }

    /// Whether a workload whose name begins like this may be wanted.
    fn wants_some(&self, beginning: &str) -> bool {
        beginning.contains(&self.only) || self.only.contains(beginning)
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    if let Some(child) = child::Child::of_this_process()? {
        return child.run().await;
    }
    let cli = Cli::parse();
    install_missing_programs()?;
    let history = |runs, events| History { runs, events };
    let server = match cli.postgres {
        None => Some(Cluster::start(&[
            "max_connections=200",
            "shared_buffers=512MB",
            "max_wal_size=8GB",
        ])?),
        Some(_) => None,
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

    let mut comparisons = writes::measure(&setup).await?;
    comparisons.extend(reads::measure(&setup).await?);
    comparisons.extend(memory::measure(&setup)?);
    comparisons.extend(copying::measure(&setup).await?);

    let baseline = report::baseline(Path::new(BASELINE))?;
    println!("{}", report::table(&comparisons, &baseline));
    if let Some(file) = cli.json {
        report::write(&file, &comparisons)?;
    }
    if cli.keep {
        report::keep_baseline(Path::new(BASELINE), &comparisons)?;
    }
    Ok(())
}

/// Says what is being done, on the way to the table.
async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let begun = Instant::now();
    let outcome = work.await.with_context(|| name.to_owned());
    eprintln!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
    outcome
}

type Comparisons = Vec<Comparison>;
