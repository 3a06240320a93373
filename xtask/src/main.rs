//! The repository's own commands; `cargo xtask --help` lists them.
//!
//! It runs cargo, the migration binary and servers, and links none of them, so that it builds in seconds.
#![expect(clippy::print_stderr, reason = "this is a command")]

mod ci;
mod migrate;
mod test;

use std::process::{Command, ExitCode};

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
    /// Check everything that has to hold before a change lands: format, lints, tests, docs, features.
    Ci,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Migrate { arguments } => migrate::run(&arguments),
        Task::Test { options } => test::run(&options),
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

/// The cargo that runs us.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
