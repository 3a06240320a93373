//! What the errors of the layers below mean to a caller of the store.

use runtrail_audit::{Error, Result};
use runtrail_migration::{DriverError, SchemaState};
use sea_orm::DbErr;

/// An error of the database or the way to it.
pub(crate) fn database(err: DbErr) -> Error {
    let cause = DriverError::of(&err);
    let source = Box::new(err);
    match cause {
        DriverError::Busy => Error::Busy { source },
        DriverError::Timeout => Error::Timeout { source },
        DriverError::Full => Error::StorageFull { source },
        DriverError::NoSuchTable => Error::SchemaMissing,
        DriverError::Transient => Error::Backend {
            transient: true,
            source,
        },
        DriverError::ForeignKey | DriverError::Permanent => Error::Backend {
            transient: false,
            source,
        },
    }
}

/// An error of connecting or migrating.
pub(crate) fn migration(err: runtrail_migration::Error) -> Error {
    use runtrail_migration::Error as Migration;
    match err {
        Migration::InvalidUrl { reason } => Error::invalid("url", reason),
        Migration::InvalidSchemaName | Migration::NoSuchSchema { .. } => {
            Error::invalid("schema", format!("can't be used: {err}"))
        }
        Migration::Unfit(state) => match fitness(state) {
            Err(err) => err,
            Ok(()) => Error::SchemaMissing,
        },
        Migration::Database(err) => database(err),
        err => Error::Backend {
            transient: true,
            source: Box::new(err),
        },
    }
}

/// An error of the query builder: a statement was put together wrongly, which is ours to mend.
pub(crate) fn statement(err: sea_orm::sea_query::error::Error) -> Error {
    Error::Backend {
        transient: false,
        source: Box::new(err),
    }
}

/// Whether a schema in this state can be used.
pub(crate) fn fitness(state: SchemaState) -> Result<()> {
    match state {
        SchemaState::Current => Ok(()),
        SchemaState::Outdated { pending } => Err(Error::SchemaOutdated { pending }),
        SchemaState::TooNew { unknown } => Err(Error::SchemaTooNew { unknown }),
        SchemaState::Foreign { table, missing } => Err(Error::SchemaForeign { table, missing }),
        _ => Err(Error::SchemaMissing),
    }
}
