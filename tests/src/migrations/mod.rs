/// Up, down and up again, all at once and step by step.
mod up_and_down;

/// The schema as the database reports it, against a golden file.
mod golden;

/// Many processes and stores that migrate at once.
mod concurrency;

/// Composed into a host's migrator, or before and after the host's migrations.
mod host;

/// Tables that something other than our migrations has created.
mod created_elsewhere;

/// A store on a missing, older, newer or foreign schema.
pub(crate) mod schema_checks;

/// A newer version next to an older one.
mod rolling;

/// A database that was filled under an earlier schema.
mod upgrade;

/// The command, and the script that it prints.
mod command;
