//! Maps errors of the database and its driver to the errors that callers get.

use runtrail_audit::{Error, Result};
use sea_orm::DbErr;
use tokio::runtime::TryCurrentError;
use tokio::time::error::Elapsed;

use crate::{ConnectError, DriverErrorKind};

/// Maps an error of the database or of its connection.
pub fn database(err: DbErr) -> Error {
    let kind = DriverErrorKind::of(&err);
    let source = err.into();
    match kind {
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

/// Maps an error of opening a database.
pub fn connecting(err: ConnectError) -> Error {
    match err {
        ConnectError::InvalidUrl { reason } => Error::invalid("url", reason),
        ConnectError::Database(err) => database(err),
        err => Error::Backend {
            transient: false,
            source: err.into(),
        },
    }
}

/// Returns whether a constraint or a trigger refused the statement.
pub fn is_refused(err: &Error) -> bool {
    driver_error(err).map(DriverErrorKind::of) == Some(DriverErrorKind::Refused)
}

/// Returns whether no connection became free, or could be opened, in time.
pub fn is_without_connection(err: &Error) -> bool {
    driver_error(err).map(DriverErrorKind::of) == Some(DriverErrorKind::NoConnection)
}

/// Flattens the result of an operation with a timeout.
pub fn in_time(outcome: Result<Result<(), DbErr>, Elapsed>) -> Result<()> {
    match outcome {
        Ok(outcome) => outcome.map_err(database),
        Err(elapsed) => Err(Error::Timeout {
            source: elapsed.into(),
        }),
    }
}

/// Maps the error of a call outside a tokio runtime.
pub fn runtime(err: TryCurrentError) -> Error {
    Error::Backend {
        transient: false,
        source: err.into(),
    }
}

/// Returns the driver's message, or the error's own if it has no driver error as its source.
pub fn cause(err: &Error) -> String {
    driver_error(err).map_or_else(|| err.to_string(), ToString::to_string)
}

/// Returns the driver error that is the source of this error, if any.
pub fn driver_error(err: &Error) -> Option<&DbErr> {
    std::error::Error::source(err).and_then(|source| source.downcast_ref::<DbErr>())
}

/// Maps an error of the query builder: a bug in the code that built the statement.
pub fn statement(err: sea_orm::sea_query::error::Error) -> Error {
    Error::Backend {
        transient: false,
        source: err.into(),
    }
}

/// Maps the error of a value that can't be serialised as JSON.
pub fn json(err: serde_json::Error) -> Error {
    Error::Backend {
        transient: false,
        source: err.into(),
    }
}
