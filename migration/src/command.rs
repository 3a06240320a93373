//! The migration commands of `runtrail-migration` and `runtrail migrate`.

use std::error::Error;
use std::io::{self, Write};

use clap::Subcommand;
use runtrail_db::DatabaseOptions;
use sea_orm::DatabaseConnection;

use crate::{Migrator, SchemaName, script};

/// The database that the commands use by default.
pub const DEFAULT_URL: &str = "sqlite://runtrail.db?mode=rwc";

/// A migration command. There is no `fresh`, `refresh` or `reset`: each would delete the history
/// with one careless word.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Apply pending migrations (the default).
    Up {
        /// Apply only the next N.
        #[arg(short = 'n', long = "num", value_name = "N")]
        steps: Option<u32>,
    },
    /// Roll back migrations and drop their tables, unless a table has rows.
    Down {
        /// How many to roll back.
        #[arg(value_name = "N", default_value_t = 1, conflicts_with = "num")]
        steps: u32,
        /// The same number, in the form that sea-orm-cli passes on.
        #[arg(short = 'n', long, value_name = "N", hide = true)]
        num: Option<u32>,
        /// Also drop tables that have rows; this deletes the history.
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

/// Runs a command. Prints the changes and the resulting status on stdout, and the database on
/// stderr.
///
/// # Errors
///
/// Those of the [`Migrator`], and of writing to stdout.
pub async fn run(
    command: Command,
    options: DatabaseOptions,
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

    // A closed stderr must not prevent the migration.
    let _ = writeln!(io::stderr(), "Database {options}");
    // Neither status nor a rollback creates a database.
    let options = match command {
        Command::Up { .. } => options,
        Command::Down { .. } => options.existing_only(),
        Command::Status | Command::PrintSql => options.read_only(),
    };
    // One connection is enough, and some roles are limited to one.
    let db = options.max_connections(1).open().await?;
    let result = run_on(&db, command, &migrator).await;
    // Closes even after a failure, so that SQLite removes the `-wal` and `-shm` files.
    let closed = db.close().await;
    result?;
    Ok(closed?)
}

async fn run_on(
    db: &DatabaseConnection,
    command: Command,
    migrator: &Migrator,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    match command {
        Command::Up { steps } => {
            let applied = migrator.up(db, steps).await?;
            #[cfg(feature = "sqlite")]
            runtrail_db::switch_to_write_ahead_log(db).await?;
            print_changes("applied", &applied)?;
        }
        Command::Down { steps, num, force } => {
            let steps = num.unwrap_or(steps);
            let migrator = migrator.clone();
            let migrator = if force {
                migrator.deleting_rows()
            } else {
                migrator
            };
            let rolled_back = migrator.down(db, steps).await.map_err(with_advice)?;
            let is_composed =
                rolled_back.is_empty() && migrator.status(db).await?.iter().any(|it| it.is_applied);
            if is_composed {
                writeln!(io::stdout(), "  nothing rolled back: {APPLIED_BY_HOST}")?;
            } else {
                print_changes("rolled back", &rolled_back)?;
            }
        }
        Command::Status | Command::PrintSql => {}
    }
    writeln!(io::stdout(), "Now:")?;
    for migration in migrator.status(db).await? {
        let status = if migration.is_applied {
            "applied"
        } else {
            "pending"
        };
        writeln!(io::stdout(), "  {status:<8} {}", migration.name)?;
    }
    Ok(())
}

/// Adds advice about the command's options to the library's message.
fn with_advice(err: crate::Error) -> Box<dyn Error + Send + Sync> {
    match err {
        crate::Error::NotEmpty { .. } => format!("{err} with --force").into(),
        err => err.into(),
    }
}

/// Explains why nothing is rolled back although migrations are applied.
const APPLIED_BY_HOST: &str =
    "the migrator of an application has applied these migrations: roll them back with it";

fn print_changes(verb: &str, names: &[String]) -> io::Result<()> {
    for name in names {
        writeln!(io::stdout(), "  {verb} {name}")?;
    }
    if names.is_empty() {
        writeln!(io::stdout(), "  nothing {verb}: there was nothing to do")?;
    }
    Ok(())
}
