//! `runtrail-migration`: migrates a database from the command line.
//!
//! `cargo xtask migrate` runs it, and so does `sea-orm-cli migrate -d migration`, whose arguments it
//! understands. `fresh`, `refresh` and `reset` are left out: they delete a history in one careless word.
#![expect(clippy::print_stderr, reason = "this is a command")]

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runtrail_migration::{ConnectOptions, Migrator, SchemaName};

/// Migrate the Runtrail tables of a database.
#[derive(Parser)]
#[command(version, name = "migrate")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// The database.
    #[arg(
        short = 'u',
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://runtrail.db?mode=rwc"
    )]
    database_url: String,

    /// The PostgreSQL schema; by default the one that the connection's own queries use.
    #[arg(short = 's', long, global = true, env = "DATABASE_SCHEMA")]
    database_schema: Option<SchemaName>,

    /// Taken because sea-orm-cli passes it on; the output is the same.
    #[arg(short = 'v', long, global = true, hide = true)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Apply pending migrations (the default).
    Up {
        /// Only the next N.
        #[arg(short = 'n', long = "num", value_name = "N")]
        steps: Option<u32>,
    },
    /// Roll back migrations; this deletes the history.
    Down {
        /// How many.
        #[arg(value_name = "N", default_value_t = 1, conflicts_with = "num")]
        steps: u32,
        #[arg(short = 'n', long, value_name = "N", hide = true)]
        num: Option<u32>,
    },
    /// Show which migrations are applied and which are pending.
    Status,
    /// Print the whole schema as an SQL script, without touching the database.
    PrintSql,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever was reading, `head` say, has seen enough.
        Err(err) if is_broken_pipe(&*err) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {}", with_causes(&*err));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let options = ConnectOptions::new(cli.database_url);
    let command = cli.command.unwrap_or(Command::Up { steps: None });
    if let Command::PrintSql = command {
        let schema = cli.database_schema.as_ref();
        write!(
            io::stdout(),
            "{}",
            runtrail_migration::script(options.backend()?, schema)
        )?;
        return Ok(());
    }
    let migrator = match cli.database_schema {
        Some(schema) => Migrator::in_schema(schema),
        None => Migrator::new(),
    };

    // Not among the results: a reader who has gone away must not keep us from migrating.
    eprintln!("Database {options}");
    let db = options.open().await?;
    match command {
        Command::Up { steps } => print_changes("applied", &migrator.up(&db, steps).await?)?,
        Command::Down { steps, num } => {
            let steps = num.unwrap_or(steps);
            print_changes("rolled back", &migrator.down(&db, steps).await?)?;
        }
        Command::Status | Command::PrintSql => {}
    }
    writeln!(io::stdout(), "Now:")?;
    for migration in migrator.status(&db).await? {
        let status = if migration.is_applied {
            "applied"
        } else {
            "pending"
        };
        writeln!(io::stdout(), "  {status:<8} {}", migration.name)?;
    }
    db.close().await?;
    Ok(())
}

fn is_broken_pipe(err: &(dyn Error + 'static)) -> bool {
    err.downcast_ref::<io::Error>()
        .is_some_and(|err| err.kind() == io::ErrorKind::BrokenPipe)
}

/// The message and those of its causes, without the ones that SeaORM repeats.
fn with_causes(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let message = err.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = err.source();
    }
    text
}

fn print_changes(verb: &str, names: &[String]) -> io::Result<()> {
    for name in names {
        writeln!(io::stdout(), "  {verb} {name}")?;
    }
    if names.is_empty() {
        writeln!(io::stdout(), "  nothing {verb}: there was nothing to do")?;
    }
    Ok(())
}
