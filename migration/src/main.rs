//! `runtrail-migration`: migrates a database from the command line.
//!
//! `cargo xtask migrate` runs it, and so does `sea-orm-cli migrate -d migration`, whose arguments
//! it accepts.
#![expect(clippy::print_stderr, reason = "this is a command")]

use std::process::ExitCode;

use clap::Parser;
use runtrail_db::DatabaseOptions;
use runtrail_migration::command::{self, Command};
use runtrail_migration::{SchemaName, report};

/// Migrate the Runtrail tables of a database.
#[derive(Parser)]
#[command(version, name = "migrate")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// The database URL.
    #[arg(
        short = 'u',
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = command::DEFAULT_URL
    )]
    database_url: String,

    /// The PostgreSQL schema; by default the one that the connection's own queries use.
    #[arg(short = 's', long, global = true, env = "DATABASE_SCHEMA")]
    database_schema: Option<SchemaName>,

    /// Accepted because sea-orm-cli passes it on; no effect.
    #[arg(short = 'v', long, global = true, hide = true)]
    verbose: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = DatabaseOptions::new(cli.database_url);
    let command = cli.command.unwrap_or_default();
    match command::run(command, options, cli.database_schema).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) if report::is_broken_pipe(&*err) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {}", report::with_causes(&*err));
            ExitCode::FAILURE
        }
    }
}
