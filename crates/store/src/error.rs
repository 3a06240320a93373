//! Converts the errors of lower layers to errors of the store.

use runtrail_audit::{Error, Result};
pub(crate) use runtrail_db::error::{
    cause, connecting, database, driver_error, in_time, is_refused, json, runtime, statement,
};
use runtrail_migration::SchemaState;

/// Converts an error of the migrator.
pub(crate) fn migration(err: runtrail_migration::Error) -> Error {
    use runtrail_migration::Error as Migration;
    match err {
        Migration::InvalidSchemaName | Migration::NoSuchSchema { .. } => {
            Error::invalid("schema", format!("can't be used: {err}"))
        }
        Migration::Unfit(state) => schema_error(state),
        Migration::Database(err) => database(err),
        err => Error::Backend {
            transient: matches!(err, Migration::Interrupted),
            source: err.into(),
        },
    }
}

/// Fails unless the schema is current.
pub(crate) fn require_current(state: SchemaState) -> Result<()> {
    match state {
        SchemaState::Current => Ok(()),
        state => Err(schema_error(state)),
    }
}

fn schema_error(state: SchemaState) -> Error {
    match state {
        SchemaState::Missing => Error::SchemaMissing,
        SchemaState::Outdated { pending } => Error::SchemaOutdated { pending },
        SchemaState::TooNew { unknown } => Error::SchemaTooNew { unknown },
        SchemaState::Foreign { table, missing } => Error::SchemaForeign { table, missing },
        SchemaState::Incomplete { table, missing } => Error::SchemaIncomplete { table, missing },
        SchemaState::UnsupportedEncoding { encoding } => Error::UnsupportedEncoding { encoding },
        state => Error::Backend {
            transient: false,
            source: state.to_string().into(),
        },
    }
}
