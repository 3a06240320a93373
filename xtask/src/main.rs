//! The repository's own commands; `cargo xtask --help` lists them.
//!
//! It runs cargo, the migration binary, the benchmarks and servers, and links none of them, so that it builds in seconds.
#![expect(clippy::print_stderr, reason = "this is a command")]

mod api;
mod bench;
mod ci;
mod hosts;
mod migrate;
mod packages;
mod test;

use std::process::{Command, ExitCode, exit};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The repository's own commands")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Migrate a database: `up` (the default), `down`, `status` or `print-sql`, with `--database-url`.
    #[command(disable_help_flag = true)]
    Migrate {
        /// What the migration command takes; `--help` lists it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every test on SQLite and on a real PostgreSQL, which is started for it.
    ///
    /// RUNTRAIL_TEST_POSTGRES_URL names another PostgreSQL to use, on which databases and roles may be created.
    Test {
        #[command(flatten)]
        options: test::Options,
    },
    /// Measure Runtrail beside the same work done by hand; `--help` lists the options.
    #[command(disable_help_flag = true)]
    Bench {
        /// What the benchmarks take.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write the public API of each library crate to `api/*.txt`.
    Api {
        #[command(flatten)]
        options: api::Options,
    },
    /// Package every crate, and build an empty host on the packaged facade.
    Packages,
    /// Build and run the applications in tests/hosts, on SQLite and on a PostgreSQL that is started for them.
    Hosts,
    /// Check everything that has to hold before a change lands: format, lints, tests, docs, features, packages.
    Ci,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Migrate { arguments } => migrate::run(&arguments),
        Task::Bench { arguments } => bench::run(&arguments),
        Task::Test { options } => test::run(&options),
        Task::Api { options } => api::run(&options),
        Task::Packages => packages::check(),
        Task::Hosts => hosts::run(),
        Task::Ci => ci::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that says itself what is wrong, and ends with its exit code if there is something.
fn hand_over(command: &mut Command) -> Result<()> {
    let status = command.status().context("cargo can't be run")?;
    match status.code() {
        Some(0) => Ok(()),
        code => exit(code.unwrap_or(1)),
    }
}

/// The cargo that runs us.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
