//! What the errors of the layers below mean to a caller of the store.

use runtrail_audit::{Error, Result};
use runtrail_migration::{DriverErrorKind, SchemaState};
use sea_orm::DbErr;
use tokio::runtime::TryCurrentError;
use tokio::time::error::Elapsed;

/// An error of the database or the way to it.
pub(crate) fn database(err: DbErr) -> Error {
    let cause = DriverErrorKind::of(&err);
    let source = err.into();
    match cause {
        DriverErrorKind::Busy => Error::Busy { source },
        DriverErrorKind::Timeout | DriverErrorKind::NoConnection => Error::Timeout { source },
        DriverErrorKind::Full => Error::StorageFull { source },
        DriverErrorKind::ReadOnly => Error::ReadOnly { source },
        DriverErrorKind::NoSuchTable => Error::SchemaMissing,
        DriverErrorKind::Transient => Error::Backend {
            transient: true,
            source,
        },
        DriverErrorKind::Refused | DriverErrorKind::Permanent => Error::Backend {
            transient: false,
            source,
        },
    }
}

/// Whether a constraint or a trigger has refused the statement.
pub(crate) fn is_refused(err: &Error) -> bool {
    driver_error(err).map(DriverErrorKind::of) == Some(DriverErrorKind::Refused)
}

/// Whether no connection became free, or could be opened, in time.
pub(crate) fn is_without_connection(err: &Error) -> bool {
    driver_error(err).map(DriverErrorKind::of) == Some(DriverErrorKind::NoConnection)
}

/// Flattens the outcome of a timed operation.
pub(crate) fn in_time(outcome: Result<Result<(), DbErr>, Elapsed>) -> Result<()> {
    match outcome {
        Ok(outcome) => outcome.map_err(database),
        Err(late) => Err(Error::Timeout {
            source: late.into(),
        }),
    }
}

/// The caller has no tokio runtime.
pub(crate) fn runtime(err: TryCurrentError) -> Error {
    Error::Backend {
        transient: false,
        source: err.into(),
    }
}

/// The database's own message.
pub(crate) fn cause(err: &Error) -> String {
    driver_error(err).map_or_else(|| err.to_string(), ToString::to_string)
}

/// The driver's error.
pub(crate) fn driver_error(err: &Error) -> Option<&DbErr> {
    std::error::Error::source(err).and_then(|source| source.downcast_ref::<DbErr>())
}

/// An error of connecting or migrating.
pub(crate) fn migration(err: runtrail_migration::Error) -> Error {
    use runtrail_migration::Error as Migration;
    match err {
        Migration::InvalidUrl { reason } => Error::invalid("url", reason),
        Migration::InvalidSchemaName | Migration::NoSuchSchema { .. } => {
            Error::invalid("schema", format!("can't be used: {err}"))
        }
        Migration::Unfit(state) => unfit(state),
        Migration::Database(err) => database(err),
        err => Error::Backend {
            transient: matches!(err, Migration::Interrupted),
            source: err.into(),
        },
    }
}

/// An error of the query builder: a statement was put together wrongly, which is ours to mend.
pub(crate) fn statement(err: sea_orm::sea_query::error::Error) -> Error {
    Error::Backend {
        transient: false,
        source: err.into(),
    }
}

/// A value that can't be written as JSON.
pub(crate) fn json(err: serde_json::Error) -> Error {
    Error::Backend {
        transient: false,
        source: err.into(),
    }
}

/// Whether a schema in this state can be used.
pub(crate) fn fitness(state: SchemaState) -> Result<()> {
    match state {
        SchemaState::Current => Ok(()),
        state => Err(unfit(state)),
    }
}

fn unfit(state: SchemaState) -> Error {
    match state {
        SchemaState::Missing => Error::SchemaMissing,
        SchemaState::Outdated { pending } => Error::SchemaOutdated { pending },
        SchemaState::TooNew { unknown } => Error::SchemaTooNew { unknown },
        SchemaState::Foreign { table, missing } => Error::SchemaForeign { table, missing },
        SchemaState::Incomplete { table, lacks } => Error::SchemaIncomplete { table, lacks },
        SchemaState::UnsupportedEncoding { encoding } => Error::UnsupportedEncoding { encoding },
        state => Error::Backend {
            transient: false,
            source: state.to_string().into(),
        },
    }
}
