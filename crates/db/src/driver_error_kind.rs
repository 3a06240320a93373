use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlxError};

/// Classifies the errors of the database and its driver. No other module knows their codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverErrorKind {
    /// Another transaction holds a lock.
    Busy,
    /// The database didn't answer in time.
    Timeout,
    /// No connection became free in time.
    NoConnection,
    /// The disk is full.
    Full,
    /// The database accepts no writes: a standby, or a read-only file.
    ReadOnly,
    /// A table doesn't exist.
    NoSuchTable,
    /// A constraint or a trigger refuses the statement.
    Refused,
    /// The connection or the server failed, or transactions conflicted: the same statement may
    /// succeed later.
    Transient,
    /// Anything else.
    Permanent,
}

impl DriverErrorKind {
    /// Classifies an error.
    pub fn of(err: &DbErr) -> Self {
        match err {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Self::NoConnection,
            DbErr::Conn(RuntimeErr::SqlxError(err))
            | DbErr::Exec(RuntimeErr::SqlxError(err))
            | DbErr::Query(RuntimeErr::SqlxError(err)) => Self::of_sqlx(err),
            _ => Self::Permanent,
        }
    }

    /// Classifies the source of another error; `None` if it isn't an error of the database or its
    /// driver.
    pub fn of_source(err: &(dyn Error + 'static)) -> Option<Self> {
        err.downcast_ref().map(Self::of)
    }

    /// Repeats an attempt that fails on another transaction's lock, at most `tries` times, with a
    /// pause in between.
    ///
    /// # Errors
    ///
    /// The error of the last attempt, or the first one that isn't caused by a lock.
    pub async fn retry_while_busy<T, E, F>(
        tries: u32,
        pause: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Error + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let is_busy = |err: &E| err.source().and_then(Self::of_source) == Some(Self::Busy);
        for _ in 1..tries {
            match attempt().await {
                Err(err) if is_busy(&err) => tokio::time::sleep(pause).await,
                result => return result,
            }
        }
        attempt().await
    }

    /// Returns whether a prepared statement is missing, or its name is already in use: a sign of a
    /// pooler that switches between servers.
    pub fn is_about_prepared_statements(err: &(dyn Error + 'static)) -> bool {
        let Some(err) = err.downcast_ref::<DbErr>() else {
            return false;
        };
        let (DbErr::Conn(RuntimeErr::SqlxError(err))
        | DbErr::Exec(RuntimeErr::SqlxError(err))
        | DbErr::Query(RuntimeErr::SqlxError(err))) = err
        else {
            return false;
        };
        let code = err.as_database_error().and_then(|err| err.code());
        // duplicate_prepared_statement, invalid_sql_statement_name
        matches!(code.as_deref(), Some("42P05" | "26000"))
    }

    fn of_sqlx(err: &SqlxError) -> Self {
        match err {
            SqlxError::Database(err) => match err.code().unwrap_or(Cow::Borrowed("")).as_ref() {
                // PostgreSQL's codes have five characters, SQLite's are numbers.
                state if state.len() == 5 => Self::of_sqlstate(state),
                code => code
                    .parse()
                    .map_or(Self::Permanent, |code| Self::of_sqlite(code, err.message())),
            },
            SqlxError::PoolTimedOut => Self::NoConnection,
            SqlxError::Io(_) | SqlxError::WorkerCrashed => Self::Transient,
            _ => Self::Permanent,
        }
    }

    /// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    fn of_sqlstate(state: &str) -> Self {
        match state {
            // lock_not_available, object_in_use
            "55P03" | "55006" => Self::Busy,
            // query_canceled (by statement_timeout or an operator); transaction_timeout
            "57014" | "25P04" => Self::Timeout,
            // disk_full
            "53100" => Self::Full,
            // read_only_sql_transaction
            "25006" => Self::ReadOnly,
            // undefined_table, invalid_schema_name
            "42P01" | "3F000" => Self::NoSuchTable,
            // integrity_constraint_violation; raise_exception, as in a host's trigger
            _ if state.starts_with("23") => Self::Refused,
            "P0001" => Self::Refused,
            // serialization_failure, deadlock_detected
            "40001" | "40P01" => Self::Transient,
            // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout,
            // idle_in_transaction_session_timeout
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => Self::Transient,
            // insufficient_resources: too many connections, out of memory
            _ if state.starts_with("53") => Self::Transient,
            // protocol_violation: poolers also report an unknown startup parameter with it
            "08P01" => Self::Permanent,
            // connection_exception
            _ if state.starts_with("08") => Self::Transient,
            _ => Self::Permanent,
        }
    }

    /// <https://www.sqlite.org/rescode.html>: the low byte is the primary code.
    fn of_sqlite(code: i32, message: &str) -> Self {
        match code & 0xFF {
            // SQLITE_BUSY, SQLITE_LOCKED
            5 | 6 => Self::Busy,
            // SQLITE_FULL
            13 => Self::Full,
            // SQLITE_IOERR_SHMSIZE: no space for the index of the write-ahead log
            _ if code == 4874 => Self::Full,
            // SQLITE_READONLY
            8 => Self::ReadOnly,
            // SQLITE_CONSTRAINT
            19 => Self::Refused,
            // SQLITE_NOMEM, SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_PROTOCOL, SQLITE_SCHEMA
            7 | 9 | 10 | 15 | 17 => Self::Transient,
            // SQLITE_ERROR: only the message says more
            1 if message.starts_with("no such table") => Self::NoSuchTable,
            _ => Self::Permanent,
        }
    }
}
