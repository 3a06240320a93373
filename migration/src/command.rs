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
    /// Roll back migrations, which drops their tables: only if they have no rows.
    Down {
        /// How many.
        #[arg(value_name = "N", default_value_t = 1, conflicts_with = "num")]
        steps: u32,
        /// The same, as sea-orm-cli passes it on.
        #[arg(short = 'n', long, value_name = "N", hide = true)]
        num: Option<u32>,
        /// Drop tables that have rows too; this deletes the history.
        #[arg(long)]
        force: bool,
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
        Command::Down { steps, num, force } => {
            let steps = num.unwrap_or(steps);
            let migrator = migrator.clone();
            let migrator = if force {
                migrator.deleting_rows()
            } else {
                migrator
            };
            let rolled_back = migrator.down(&db, steps).await;
            print_changes("rolled back", &rolled_back.map_err(with_advice)?)?;
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

/// What the command offers beside what the library's message says.
fn with_advice(err: crate::Error) -> Box<dyn Error + Send + Sync> {
    match err {
        crate::Error::NotEmpty { .. } => format!("{err} (--force)").into(),
        err => err.into(),
    }
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
