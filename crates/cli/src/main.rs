//! `runtrail`: records any program as a run, and queries the history.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 wrong
//! usage, 4 no such run or budget, 5 over budget; `exec` passes on the program's own.

mod arguments;
mod budget;
mod calendar;
mod database;
mod database_environment;
mod failure;
mod filter;
mod grouping;
mod label;
mod prices;
mod run_id;
mod run_usage;
mod time;
mod warnings;

/// Recording a program.
mod exec;

// Queries: one file for each command.
mod chain;
mod cost;
mod count;
mod last;
mod list;
mod logs;
mod show;
mod stats;
mod tree;
mod watch;

// Moving and deleting the history.
mod copy;
mod export;
mod import;
mod purge;
mod sweep;
mod transfer;

/// Receiving telemetry.
mod serve;

mod output;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;

use crate::arguments::{Cli, Command};
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};

fn main() -> ExitCode {
    let cli = Cli::parse();
    warnings::report_on_stderr();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(err) => {
            return Failure::failed(format!("the async runtime can't be started: {err}")).report();
        }
    };
    let outcome = runtime.block_on(run(cli));
    // Don't wait for threads: one may be blocked writing a program's output to a reader that has
    // stalled.
    runtime.shutdown_background();
    match outcome {
        Ok(Exit::Code(code)) => code.into(),
        Ok(Exit::Interrupted) => {
            // As GNU `timeout` does: after ^C, a shell ends its script only if SIGINT killed the
            // program.
            let _ = emulate_default_handler(SIGINT);
            ExitCode::from(128 + SIGINT as u8)
        }
        Err(failure) => failure.report(),
    }
}

/// How the process ends.
enum Exit {
    Code(u8),
    /// By SIGINT, like the program that `exec` ran.
    Interrupted,
}

async fn run(cli: Cli) -> Result<Exit> {
    let Cli { command, database } = cli;
    let outcome = run_command(command, &database).await;
    database.close().await;
    outcome
}

async fn run_command(command: Command, database: &DatabaseArguments) -> Result<Exit> {
    match command {
        Command::Exec(exec) => return exec.run(database).await,
        Command::Budget(budget) => return budget.run(database).await,
        Command::List(list) => list.run(database).await?,
        Command::Show(show) => show.run(database).await?,
        Command::Tree(tree) => tree.run(database).await?,
        Command::Logs(logs) => logs.run(database).await?,
        Command::Watch(watch) => watch.run(database).await?,
        Command::Count(count) => count.run(database).await?,
        Command::Stats(stats) => stats.run(database).await?,
        Command::Cost(cost) => cost.run(database).await?,
        Command::Last(last) => last.run(database).await?,
        Command::Chain(chain) => chain.run(database).await?,
        Command::Purge(purge) => purge.run(database).await?,
        Command::Serve(serve) => serve.run(database).await?,
        Command::Sweep(sweep) => sweep.run(database).await?,
        Command::Copy(copy) => copy.run(database).await?,
        Command::Export(export) => export.run(database).await?,
        Command::Import(import) => import.run(database).await?,
        Command::Migrate { command } => database.migrate(command.unwrap_or_default()).await?,
        Command::Completions { shell } => {
            // `generate` panics if it can't write, so it writes to memory.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "runtrail", &mut script);
            io::stdout().write_all(&script)?;
        }
    }
    Ok(Exit::Code(0))
}
