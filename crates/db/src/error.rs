//! What the errors of a database and its driver mean to a caller.

use runtrail_audit::{Error, Result};
use sea_orm::DbErr;
use tokio::runtime::TryCurrentError;
use tokio::time::error::Elapsed;

use crate::{ConnectError, DriverErrorKind};

/// An error of the database or the way to it.
pub fn database(err: DbErr) -> Error {
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

/// An error of opening a database.
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

/// Whether a constraint or a trigger has refused the statement.
pub fn is_refused(err: &Error) -> bool {
    driver_error(err).map(DriverErrorKind::of) == Some(DriverErrorKind::Refused)
}

/// Whether no connection became free, or could be opened, in time.
pub fn is_without_connection(err: &Error) -> bool {
    driver_error(err).map(DriverErrorKind::of) == Some(DriverErrorKind::NoConnection)
}

/// Flattens the outcome of a timed operation.
pub fn in_time(outcome: Result<Result<(), DbErr>, Elapsed>) -> Result<()> {
    match outcome {
        Ok(outcome) => outcome.map_err(database),
        Err(late) => Err(Error::Timeout {
            source: late.into(),
        }),
    }
}

/// The caller has no tokio runtime.
pub fn runtime(err: TryCurrentError) -> Error {
    Error::Backend {
        transient: false,
        source: err.into(),
    }
}

/// The database's own message.
pub fn cause(err: &Error) -> String {
    driver_error(err).map_or_else(|| err.to_string(), ToString::to_string)
}

/// The driver's error.
pub fn driver_error(err: &Error) -> Option<&DbErr> {
    std::error::Error::source(err).and_then(|source| source.downcast_ref::<DbErr>())
}

/// An error of the query builder: a statement was put together wrongly, which is ours to mend.
pub fn statement(err: sea_orm::sea_query::error::Error) -> Error {
    Error::Backend {
        transient: false,
        source: err.into(),
    }
}

/// A value that can't be written as JSON.
pub fn json(err: serde_json::Error) -> Error {
    Error::Backend {
        transient: false,
        source: err.into(),
    }
}
