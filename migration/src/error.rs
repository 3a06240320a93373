use sea_orm::DbErr;

use crate::{SchemaName, SchemaState};

/// The result of every fallible call here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with migrating. No message holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name of a PostgreSQL schema is out of bounds.
    #[error("a schema name has 1 to 63 of a-z, 0-9 and _, and doesn't begin with a digit")]
    InvalidSchemaName,
    /// There is no such schema in the PostgreSQL database.
    #[error("there is no schema {schema} in the database: create it first")]
    NoSuchSchema {
        /// The schema.
        schema: SchemaName,
    },
    /// What is in the database can't be migrated by this version.
    #[error("{0}")]
    Unfit(SchemaState),
    /// Rolling back would delete a history.
    #[error(
        "table {table} has rows, and rolling back would delete them: delete them first, or force it"
    )]
    NotEmpty {
        /// The table.
        table: &'static str,
    },
    /// The runtime is shutting down; the migration was rolled back.
    #[error("the migration was interrupted")]
    Interrupted,
    /// The database refused or failed.
    #[error("the database failed")]
    Database(#[from] DbErr),
}
