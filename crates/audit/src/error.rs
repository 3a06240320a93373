use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::Amount;

/// The underlying error of an [`Error`], shared by its clones.
///
/// It dereferences to the error that [`source`](std::error::Error::source) returns.
#[derive(Clone)]
pub struct ErrorSource(Arc<dyn std::error::Error + Send + Sync + 'static>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for ErrorSource {
    fn from(err: E) -> Self {
        Self(Arc::from(err.into()))
    }
}

impl Deref for ErrorSource {
    type Target = dyn std::error::Error + Send + Sync + 'static;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for ErrorSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The errors of a history. Each variant calls for a different reaction from the caller.
///
/// It is safe to repeat a write after any of them: the write takes effect once, or fails again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No run with this id is stored.
    #[error("there is no run with id {run_id:?}")]
    NotFound {
        /// The requested id.
        run_id: String,
    },
    /// A different event is stored under this sequence of the run; the stored event is unchanged.
    #[error("event {sequence} of run {run_id:?} is already stored with different content")]
    Conflict {
        /// The run of the event.
        run_id: String,
        /// The sequence within the run.
        sequence: u64,
    },
    /// The stored run is finished and differs from the given one; the stored run is unchanged.
    #[error("run {run_id:?} is finished and differs from the given one")]
    RunFinished {
        /// The id of the run.
        run_id: String,
    },
    /// A different run is stored under this id; the stored run is unchanged.
    #[error("run {run_id:?} already exists and differs from the given one")]
    RunExists {
        /// The id of the run.
        run_id: String,
    },
    /// A budget has less left than the requested amount; nothing was reserved.
    #[error("budget {budget:?} has only {left} left{}", renewal(*.renews_at))]
    OverBudget {
        /// The name of the budget. If several have too little left, the first by name.
        budget: String,
        /// What is left of it.
        left: Amount,
        /// When something of it is renewed, as in
        /// [`BudgetStatus::renews_at`](crate::BudgetStatus::renews_at).
        renews_at: Option<DateTime<Utc>>,
    },
    /// The stored reservation with this id differs from the given one, or is settled with another
    /// amount; it is unchanged.
    #[error("reservation {id:?} is already stored with different values")]
    ReservationConflict {
        /// The id of the reservation.
        id: String,
    },
    /// No reservation with this id is stored.
    #[error("there is no reservation with id {id:?}")]
    UnknownReservation {
        /// The requested id.
        id: String,
    },
    /// An argument is invalid.
    #[error("{field} {reason}")]
    InvalidInput {
        /// The field or argument.
        field: &'static str,
        /// What is wrong, as a predicate of the field: the message is "{field} {reason}".
        reason: Cow<'static, str>,
    },
    /// A value is larger than the store's [`Limits`](crate::Limits).
    #[error("{field} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A stored row can't be decoded: another program has written it.
    #[error("row {id:?} of table {table} is damaged: {column} {reason}")]
    Corrupt {
        /// The table of the row.
        table: &'static str,
        /// The key of the row, as far as it can be read.
        id: String,
        /// The first column that can't be read.
        column: &'static str,
        /// What is wrong, as a predicate of the column.
        reason: String,
    },
    /// The database has none of Runtrail's tables; call
    /// [`initialize`](crate::Storage::initialize) first.
    #[error("the database has no Runtrail tables: migrate it first")]
    SchemaMissing,
    /// The schema is older than this version of the library; migrate it.
    #[error("the Runtrail schema is older than this version: it lacks {}", .pending.join(", "))]
    SchemaOutdated {
        /// Migrations that are not yet applied.
        pending: Vec<String>,
    },
    /// The schema is newer than this version of the library; upgrade the library.
    #[error("the Runtrail schema is newer than this version: it has {}", .unknown.join(", "))]
    SchemaTooNew {
        /// Applied migrations that this version doesn't know.
        unknown: Vec<String>,
    },
    /// A table has one of Runtrail's names but belongs to another application.
    #[error("table {table} is not Runtrail's: it has no column {}", .missing.join(", "))]
    SchemaForeign {
        /// The table.
        table: String,
        /// The columns that Runtrail's table would have.
        missing: Vec<String>,
    },
    /// A key of this table is missing. The table was created or changed by something other than
    /// Runtrail's migrations, such as SeaORM's schema sync. On PostgreSQL, migrating adds a missing
    /// foreign key.
    #[error("table {table} lacks {}", .missing.join(" and "))]
    SchemaIncomplete {
        /// The table.
        table: String,
        /// The missing parts.
        missing: Vec<String>,
    },
    /// The encoding of the PostgreSQL database can't store every character.
    ///
    /// The encoding of a database can't be changed later. Create one with
    /// `CREATE DATABASE … ENCODING 'UTF8'`; `SQL_ASCII` works too.
    #[error(
        "the database has the encoding {encoding}, which can't store every character: use a \
        database with UTF8"
    )]
    UnsupportedEncoding {
        /// The encoding, as PostgreSQL names it.
        encoding: String,
    },
    /// The disk is full, or the database has reached its size limit.
    #[error("the database has no space left: {}", root_cause(source))]
    StorageFull {
        /// The error that the database or its driver reported.
        source: ErrorSource,
    },
    /// The database rejects writes.
    ///
    /// On PostgreSQL, the server is a standby, for example after a failover, or its settings make
    /// it read-only: connect to the primary, or promote the standby. On SQLite, the file is
    /// read-only.
    #[error("the database is read-only: {}", root_cause(source))]
    ReadOnly {
        /// The error that the database or its driver reported.
        source: ErrorSource,
    },
    /// Another transaction has locked the row or the database; try again.
    ///
    /// On SQLite, the lock may belong to an open transaction of the caller itself: write through
    /// that transaction instead, with `AuditStore::on`.
    #[error("the database is busy: {}", root_cause(source))]
    Busy {
        /// The error that the database or its driver reported.
        source: ErrorSource,
    },
    /// No connection became available in time, or the database didn't answer in time; try again.
    #[error("the database did not answer in time: {}", root_cause(source))]
    Timeout {
        /// The error that the database or its driver reported.
        source: ErrorSource,
    },
    /// Any other failure of the database or of the connection to it.
    #[error("the database failed: {}", root_cause(source))]
    Backend {
        /// Whether the same call may succeed later.
        transient: bool,
        /// The error that the database or its driver reported.
        source: ErrorSource,
    },
}

/// An [`Error`] without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each is the variant of `Error` with the same name"
)]
pub enum ErrorKind {
    NotFound,
    Conflict,
    RunFinished,
    RunExists,
    OverBudget,
    ReservationConflict,
    UnknownReservation,
    InvalidInput,
    TooLarge,
    Corrupt,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
    SchemaForeign,
    SchemaIncomplete,
    UnsupportedEncoding,
    StorageFull,
    ReadOnly,
    Busy,
    Timeout,
    Backend,
}

fn renewal(renews_at: Option<DateTime<Utc>>) -> String {
    match renews_at {
        Some(at) => format!(
            "; it renews at {}",
            at.to_rfc3339_opts(SecondsFormat::Secs, true)
        ),
        None => String::new(),
    }
}

/// Returns the message of the innermost error; the outer errors repeat it or are less specific.
fn root_cause(source: &ErrorSource) -> String {
    let mut cause: &(dyn std::error::Error + 'static) = &**source;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl Error {
    /// Creates an [`Error::InvalidInput`] with the message "{field} {reason}".
    pub fn invalid(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidInput {
            field,
            reason: reason.into(),
        }
    }

    /// Creates an [`Error::NotFound`] for this run.
    pub fn not_found(run_id: &str) -> Self {
        Self::NotFound {
            run_id: run_id.to_owned(),
        }
    }

    /// Returns the variant without its details, for comparisons.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::RunFinished { .. } => ErrorKind::RunFinished,
            Self::RunExists { .. } => ErrorKind::RunExists,
            Self::OverBudget { .. } => ErrorKind::OverBudget,
            Self::ReservationConflict { .. } => ErrorKind::ReservationConflict,
            Self::UnknownReservation { .. } => ErrorKind::UnknownReservation,
            Self::InvalidInput { .. } => ErrorKind::InvalidInput,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::SchemaMissing => ErrorKind::SchemaMissing,
            Self::SchemaOutdated { .. } => ErrorKind::SchemaOutdated,
            Self::SchemaTooNew { .. } => ErrorKind::SchemaTooNew,
            Self::SchemaForeign { .. } => ErrorKind::SchemaForeign,
            Self::SchemaIncomplete { .. } => ErrorKind::SchemaIncomplete,
            Self::UnsupportedEncoding { .. } => ErrorKind::UnsupportedEncoding,
            Self::StorageFull { .. } => ErrorKind::StorageFull,
            Self::ReadOnly { .. } => ErrorKind::ReadOnly,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Backend { .. } => ErrorKind::Backend,
        }
    }

    /// Returns whether the same call may succeed later without intervention.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Timeout { .. } => true,
            Self::Backend { transient, .. } => *transient,
            _ => false,
        }
    }
}
