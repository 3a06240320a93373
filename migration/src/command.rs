//! The migration command, as `runtrail-migration` and `runtrail migrate` have it.

use std::error::Error;
use std::io::{self, Write};

use clap::Subcommand;

use crate::{ConnectOptions, Migrator, SchemaName, script};

/// The database that the commands use when none is named.
pub const DEFAULT_URL: &str = "sqlite://runtrail.db?mode=rwc";

/// What the command can do. `fresh`, `refresh` and `reset` are left out: they delete a history in one careless
/// word.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
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
        /// The same, as sea-orm-cli passes it on.
        #[arg(short = 'n', long, value_name = "N", hide = true)]
        num: Option<u32>,
    },
    /// Show which migrations are applied and which are pending.
    Status,
    /// Print the whole schema as an SQL script, without touching the database.
    PrintSql,
}

impl Default for Command {
    fn default() -> Self {
        Self::Up { steps: None }
    }
}

/// Does it, telling on stdout what has changed and how things stand, and on stderr on which database.
///
/// # Errors
///
/// Those of the [`Migrator`], and of writing to stdout.
pub async fn run(
    command: Command,
    options: ConnectOptions,
    schema: Option<SchemaName>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    if let Command::PrintSql = command {
        let script = script(options.backend()?, schema.as_ref());
        return Ok(write!(io::stdout(), "{script}")?);
    }
    let migrator = match schema {
        Some(schema) => Migrator::in_schema(schema),
        None => Migrator::new(),
    };

    // Not among the results, and no reason to fail: a reader who has gone away must not keep us from migrating.
    let _ = writeln!(io::stderr(), "Database {options}");
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

fn print_changes(verb: &str, names: &[String]) -> io::Result<()> {
    for name in names {
        writeln!(io::stdout(), "  {verb} {name}")?;
    }
    if names.is_empty() {
        writeln!(io::stdout(), "  nothing {verb}: there was nothing to do")?;
    }
    Ok(())
}
