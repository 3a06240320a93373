use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The error beneath an [`Error`], shared by its clones.
///
/// It dereferences to the error itself, which [`source`](std::error::Error::source) returns as well.
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

/// The result of every fallible call here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, one variant for each thing a caller may want to do about it.
///
/// Every write can be repeated after any of these: it then succeeds once, or says the same again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such run.
    #[error("there is no run with id {run_id:?}")]
    NotFound {
        /// The id that was asked for.
        run_id: String,
    },
    /// Another event is stored at this place of the run; it stays as it is.
    #[error("event {sequence} of run {run_id:?} is stored already, with another type or payload")]
    Conflict {
        /// The run of the event.
        run_id: String,
        /// The place within the run.
        sequence: u64,
    },
    /// The run is finished and differs from what was given; it stays as it is.
    #[error("run {run_id:?} is finished and differs from what was given")]
    RunFinished {
        /// The id of the run.
        run_id: String,
    },
    /// Another run is stored under this id; that run is unchanged.
    #[error("there is a run {run_id:?} already, and it differs from what was given")]
    RunExists {
        /// The id of the run.
        run_id: String,
    },
    /// An argument is out of bounds.
    #[error("{field} {reason}")]
    InvalidInput {
        /// The field or argument.
        field: &'static str,
        /// What is wrong with it, in words that follow the field's name.
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
    /// A stored row can't be read: something other than this library has written it.
    #[error("row {id:?} of table {table} is damaged: {column} {reason}")]
    Corrupt {
        /// The table of the row.
        table: &'static str,
        /// The key of the row, as far as it can be read.
        id: String,
        /// The first column that can't be read.
        column: &'static str,
        /// What is wrong with it, in words that follow the column's name.
        reason: String,
    },
    /// The database has none of Runtrail's tables: it was never migrated.
    #[error("the database has no Runtrail tables: migrate it first")]
    SchemaMissing,
    /// The schema is older than this version of the library.
    #[error("the Runtrail schema is older than this version: pending {}", .pending.join(", "))]
    SchemaOutdated {
        /// Migrations that are still to be applied.
        pending: Vec<String>,
    },
    /// The schema is newer than this version of the library.
    #[error("the Runtrail schema is newer than this version: it has {}", .unknown.join(", "))]
    SchemaTooNew {
        /// Applied migrations that this version doesn't know.
        unknown: Vec<String>,
    },
    /// A table with one of Runtrail's names belongs to something else.
    #[error("table {table} is not Runtrail's: it has no column {}", .missing.join(", "))]
    SchemaForeign {
        /// The table.
        table: String,
        /// Columns that it would have if it were Runtrail's.
        missing: Vec<String>,
    },
    /// A key of this table is missing: something other than our migrations created the table, such as SeaORM's schema
    /// sync, or changed it. On PostgreSQL, migrating adds a foreign key.
    #[error("table {table} lacks {}", .lacks.join(" and "))]
    SchemaIncomplete {
        /// The table.
        table: String,
        /// The missing parts.
        lacks: Vec<String>,
    },
    /// The PostgreSQL database has an encoding that can't hold every character.
    ///
    /// A database keeps the encoding that it was created with: `CREATE DATABASE … ENCODING 'UTF8'`. `SQL_ASCII` works
    /// too.
    #[error(
        "the database has the encoding {encoding}, which can't hold every character: use one with UTF8"
    )]
    UnsupportedEncoding {
        /// The encoding, as PostgreSQL names it.
        encoding: String,
    },
    /// The disk, or the space given to the database, is full.
    #[error("the database has no space left: {}", root_cause(source))]
    StorageFull {
        /// The database's own words.
        source: ErrorSource,
    },
    /// The database takes no writes.
    ///
    /// On PostgreSQL the server is a standby, as may happen after a failover, or read-only by its settings: connect to
    /// the primary, or promote the standby. On SQLite the file is read-only.
    #[error("the database is read-only: {}", root_cause(source))]
    ReadOnly {
        /// The database's own words.
        source: ErrorSource,
    },
    /// Others kept the row or the database locked; try again.
    ///
    /// If the caller itself has a transaction open on the SQLite file, the store has waited for the caller's own lock:
    /// write through that transaction instead, with `AuditStore::on`.
    #[error("the database is busy: {}", root_cause(source))]
    Busy {
        /// The database's own words.
        source: ErrorSource,
    },
    /// No connection was free, or the database didn't answer, in time; try again.
    #[error("the database did not answer in time: {}", root_cause(source))]
    Timeout {
        /// The database's own words.
        source: ErrorSource,
    },
    /// Any other failure of the database or the way to it.
    #[error("the database failed: {}", root_cause(source))]
    Backend {
        /// Whether the same call may succeed later.
        transient: bool,
        /// The database's own words.
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

/// The message of the innermost error: the outer ones only repeat it, or say less.
fn root_cause(source: &ErrorSource) -> String {
    let mut cause: &(dyn std::error::Error + 'static) = &**source;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl Error {
    /// [`Error::InvalidInput`]: `reason` follows the field's name in the message.
    pub fn invalid(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidInput {
            field,
            reason: reason.into(),
        }
    }

    /// [`Error::NotFound`] for this run.
    pub fn not_found(run_id: &str) -> Self {
        Self::NotFound {
            run_id: run_id.to_owned(),
        }
    }

    /// Which error it is, to compare or to match without the details.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::RunFinished { .. } => ErrorKind::RunFinished,
            Self::RunExists { .. } => ErrorKind::RunExists,
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

    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Timeout { .. } => true,
            Self::Backend { transient, .. } => *transient,
            _ => false,
        }
    }
}
