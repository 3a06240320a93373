//! The commands of this repository; `cargo xtask --help` lists them.
//!
//! xtask runs cargo, the migration binary, the benchmarks and servers, but links none of them, so
//! it builds in seconds.
#![expect(clippy::print_stderr, reason = "this is a command")]

mod api;
mod bench;
mod ci;
mod hosts;
mod migrate;
mod packages;
mod test;
mod watched;

use std::process::{Command, ExitCode, exit};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The commands of this repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Migrate a database: `up` (the default), `down`, `status` or `print-sql`, with
    /// `--database-url`.
    #[command(disable_help_flag = true)]
    Migrate {
        /// Arguments of the migration command; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run all tests on SQLite and on a PostgreSQL server, which is started for them.
    ///
    /// Set RUNTRAIL_TEST_POSTGRES_URL to use another server. Its role must be allowed to create
    /// databases and roles.
    Test {
        #[command(flatten)]
        options: test::Options,
    },
    /// Compare Runtrail with hand-written code for the same work; `--help` lists the options.
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the benchmarks.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write the public API of each library crate to `api/*.txt`.
    Api {
        #[command(flatten)]
        options: api::Options,
    },
    /// Package every crate, and build an empty host with the packaged facade.
    Packages,
    /// Build and run the applications in tests/hosts and the example in examples/agent, on SQLite
    /// and on a PostgreSQL server, which is started for them.
    Hosts,
    /// Check everything that must hold before a change lands: format, lints, tests, docs, features,
    /// packages.
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

/// Runs a command that reports its own errors. If it fails, exits with its exit code.
fn run_or_exit(command: &mut Command) -> Result<()> {
    let status = command.status().context("cargo can't be run")?;
    match status.code() {
        Some(0) => Ok(()),
        code => exit(code.unwrap_or(1)),
    }
}

/// Returns a command for the cargo that runs xtask.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
