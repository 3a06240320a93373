use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Args;
use runtrail_test_servers::{Cluster, PgBouncer, install_what_is_missing, succeed, variables};

use crate::cargo;

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
        None => env::var(variables::POSTGRES_URL)?,
    };
    let pooler = PgBouncer::start(&url)?;

    let mut command = command(options);
    command
        .env(variables::POSTGRES_URL, url)
        .env(variables::PGBOUNCER_URL, pooler.url());
    let outcome = succeed(&mut command);
    if let (Err(_), Some(server)) = (&outcome, server) {
        eprintln!("{}", server.keep());
    }
    outcome
}

fn start_unless_given() -> Result<Option<Cluster>> {
    if env::var_os(variables::POSTGRES_URL).is_some() {
        return Ok(None);
    }
    // No test of these cuts the power: what a killed process leaves is safe without waiting for the disk.
    Cluster::start(&["fsync=off", "max_connections=200"]).map(Some)
}

fn command(options: &Options) -> Command {
    let Options {
        faults,
        long,
        count,
        filters,
    } = options;
    let mut command = cargo();
    command.args(["test", "--workspace", "--exclude", "runtrail-bench"]);
    if *faults || !filters.is_empty() {
        command.args(["--test", "suite"]);
    }
    command.arg("--");
    if *faults {
        command.arg("--nocapture");
        if filters.is_empty() {
            command.arg("faults::");
        }
    }
    if *long {
        // Some have no short form. What else is ignored are the processes that tests start.
        command.args(["--include-ignored", "--skip", "::child_"]);
    }
    let form = if *long { "long" } else { "short" };
    let counts: Vec<&str> = [form]
        .into_iter()
        .chain(count.iter().map(String::as_str))
        .collect();
    command.env(variables::FAULTS, counts.join(","));
    command.args(filters);
    if !Path::new(AGENT_RUNS).exists() {
        eprintln!("NOT RUN: of_tau_bench, since {AGENT_RUNS} is not there");
        command.args(["--skip", "of_tau_bench"]);
    }
    command
}
