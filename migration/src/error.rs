use sea_orm::DbErr;

use crate::{SchemaName, SchemaState};

/// The result of every fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a migration can't run or has failed. No message contains a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name of a PostgreSQL schema is invalid.
    #[error(
        "a schema name has 1 to 63 characters of a-z, 0-9 and _, and doesn't begin with a digit"
    )]
    InvalidSchemaName,
    /// The schema doesn't exist in the PostgreSQL database.
    #[error("the schema {schema} doesn't exist in the database: create it first")]
    NoSuchSchema {
        /// The schema.
        schema: SchemaName,
    },
    /// This version can't migrate the database in its current state.
    #[error("{0}")]
    Unfit(SchemaState),
    /// Rolling back would delete the history.
    #[error(
        "table {table} has rows, and rolling back would delete them: \
         delete them first, or force the rollback"
    )]
    NotEmpty {
        /// The table.
        table: &'static str,
    },
    /// A role can't see all rows of a table.
    #[error("row-level security may hide rows of {table}: use a role with BYPASSRLS")]
    RowSecurity {
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
