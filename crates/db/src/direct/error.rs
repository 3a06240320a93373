use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use rusqlite::ErrorCode;
use sea_orm::sqlx::error::{DatabaseError, ErrorKind};
use sea_orm::{DbErr, RuntimeErr, SqlxError};

/// Converts an error to the one that SeaORM's driver would return, so that
/// [`DriverErrorKind`](crate::DriverErrorKind) recognises it.
pub(super) fn database(err: rusqlite::Error) -> DbErr {
    let (code, message) = match err {
        rusqlite::Error::SqliteFailure(code, message) => (code, message),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error, Some(msg)),
        other => return DbErr::Query(RuntimeErr::Internal(other.to_string())),
    };
    let message = message.unwrap_or_else(|| code.to_string());
    let failure = SqliteFailure {
        code: code.extended_code,
        message,
    };
    let err = SqlxError::Database(Box::new(failure));
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(err)))
}

/// Returns whether the statement was stopped.
pub(super) fn is_interrupted(err: &rusqlite::Error) -> bool {
    err.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

/// Returns whether another connection holds a lock.
pub(super) fn is_busy(err: &rusqlite::Error) -> bool {
    matches!(
        err.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// An error of SQLite, with its extended code.
#[derive(Debug)]
struct SqliteFailure {
    code: i32,
    message: String,
}

impl fmt::Display for SqliteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(code: {}) {}", self.code, self.message)
    }
}

impl std::error::Error for SqliteFailure {}

impl DatabaseError for SqliteFailure {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }
}
