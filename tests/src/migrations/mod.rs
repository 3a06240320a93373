/// Up, down and up again, alone and step by step.
mod up_and_down;

/// The schema as the database tells it, against a file.
mod golden;

/// Sixteen processes at once.
mod concurrency;

/// Composed into a host's migrator, before and after.
mod host;

/// Tables that something other than our migrations has created.
mod made_by_others;

/// A store on a schema that isn't the one it needs.
pub(crate) mod fitness;

/// A newer version beside an older one.
mod rolling;

/// The command, and the script that it prints.
mod command;
