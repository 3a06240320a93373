use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Args;
use runtrail_test_servers::{Cluster, PgBouncer, install_what_is_missing};

use crate::{cargo, succeed};

/// Two servers that the tests find by their URLs.
const POSTGRES_URL: &str = "RUNTRAIL_TEST_POSTGRES_URL";
const PGBOUNCER_URL: &str = "RUNTRAIL_TEST_PGBOUNCER_URL";

/// How much of each fault: `tests/src/faults/counts.rs` reads it.
const FAULTS: &str = "RUNTRAIL_TEST_FAULTS";

/// Beside the repository, not in it.
const AGENT_RUNS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/data/tau-bench-airline-gpt-4o.json"
);

#[derive(Args, Default)]
pub(crate) struct Options {
    /// The fault suite only, telling what it has found.
    #[arg(long)]
    faults: bool,
    /// The fault suite in its long form, which takes hours.
    #[arg(long, requires = "faults")]
    long: bool,
    /// Another count for a fault, say `kills=50`; tests/README.md lists them.
    #[arg(long, value_name = "FAULT=N", requires = "faults")]
    count: Vec<String>,
    /// Only the cases whose names contain one of these, and other options of the test runner.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filters: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    install_what_is_missing()?;
    let server = start_unless_given()?;
    let url = match &server {
        Some(server) => server.url(),
        None => env::var(POSTGRES_URL)?,
    };
    let pooler = PgBouncer::start(&url)?;

    let mut test = test(options);
    test.env(POSTGRES_URL, url).env(PGBOUNCER_URL, pooler.url());
    let outcome = succeed(&mut test);
    if let (Err(_), Some(server)) = (&outcome, server) {
        eprintln!("{}", server.keep()?);
    }
    outcome
}

fn start_unless_given() -> Result<Option<Cluster>> {
    if env::var_os(POSTGRES_URL).is_some() {
        return Ok(None);
    }
    // No test of these cuts the power: what a killed process leaves is safe without waiting for the disk.
    Cluster::start(&["fsync=off", "max_connections=200"]).map(Some)
}

fn test(options: &Options) -> Command {
    let Options {
        faults,
        long,
        count,
        filters,
    } = options;
    let mut test = cargo();
    test.args(["test", "--workspace"]);
    if *faults || !filters.is_empty() {
        test.args(["--test", "suite"]);
    }
    test.arg("--");
    if *faults {
        test.arg("--nocapture");
        if filters.is_empty() {
            test.arg("faults::");
        }
    }
    if *long {
        // Some have no short form. What else is ignored are the processes that tests start.
        test.args(["--include-ignored", "--skip", "child_"]);
    }
    let form = if *long { "long" } else { "short" };
    let faults: Vec<&str> = [form]
        .into_iter()
        .chain(count.iter().map(String::as_str))
        .collect();
    test.env(FAULTS, faults.join(","));
    test.args(filters);
    if !Path::new(AGENT_RUNS).exists() {
        eprintln!("NOT RUN: of_tau_bench, since {AGENT_RUNS} is not there");
        test.args(["--skip", "of_tau_bench"]);
    }
    test
}
