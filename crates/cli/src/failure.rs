use std::error::Error;
use std::io;
use std::process::ExitCode;

use runtrail_db::DriverErrorKind;
use runtrail_migration::report::{is_broken_pipe, with_causes};

use crate::warnings::note;

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The exit codes of every command but `exec`, which passes on the program's own.
pub(crate) const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 4;
/// Nothing is left of a budget, or less than was asked for.
pub(crate) const OVER_BUDGET: u8 = 5;

/// Why a command failed. Its message is one line that says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Failed(String),
    /// Arguments that clap accepts but that contradict each other or make no sense.
    #[error("{0}")]
    Usage(String),
    /// The database of the outer run can't be determined.
    #[error("{0}")]
    UnknownDatabase(String),
    #[error("the database {database} can't be used")]
    Opening {
        database: String,
        source: runtrail::Error,
    },
    #[error(transparent)]
    Store(#[from] runtrail::Error),
    /// Lists similar ids that the user may have meant.
    #[error("{missing}")]
    NoSuchRun {
        missing: runtrail::Error,
        similar: Vec<String>,
    },
    #[error("there is no budget {name:?}; `runtrail budget list` shows them")]
    NoSuchBudget { name: String },
    /// `@last` or a similar name that matches no run.
    #[error("no recorded run matches {given}")]
    NoneYet { given: String },
    #[error("the output can't be written")]
    Output(#[from] io::Error),
    /// `exec` failed before it started the program.
    #[error("the program was not started")]
    NotRun(#[source] Box<Failure>),
}

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(crate) fn from_boxed(err: Box<dyn Error + Send + Sync>) -> Self {
        if is_broken_pipe(&*err) {
            return Self::Output(io::ErrorKind::BrokenPipe.into());
        }
        let message = with_causes(&*err);
        if err
            .source()
            .is_some_and(DriverErrorKind::is_about_prepared_statements)
        {
            return Self::Failed(format!(
                "{message}; connect to the server directly, not through a pooler, to migrate"
            ));
        }
        Self::Failed(message)
    }

    /// Prints the failure on stderr, and returns its exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if let Self::Output(err) = self
            && err.kind() == io::ErrorKind::BrokenPipe
        {
            // The reader, for example `head`, has read all it wanted.
            return ExitCode::SUCCESS;
        }
        note(format!("error: {}", self.in_one_line()));
        ExitCode::from(self.exit_code())
    }

    /// Returns what is wrong and what to do.
    pub(crate) fn in_one_line(&self) -> String {
        let message = with_causes(self).replace(['\n', '\r'], " ");
        if let Self::NoSuchRun { similar, .. } = self {
            return match similar.is_empty() {
                true => format!("{message}; `runtrail list` shows the newest runs"),
                false => format!(
                    "{message}; did you mean one of these: {}?",
                    similar.join(", ")
                ),
            };
        }
        match self.advice() {
            Some(advice) => format!("{message}; {advice}"),
            None => message,
        }
    }

    fn exit_code(&self) -> u8 {
        if let Self::NotRun(cause) = self {
            return cause.exit_code();
        }
        match self.store_error() {
            Some(runtrail::Error::NotFound { .. }) => NOT_FOUND,
            Some(runtrail::Error::OverBudget { .. }) => OVER_BUDGET,
            None if matches!(self, Self::NoneYet { .. } | Self::NoSuchBudget { .. }) => NOT_FOUND,
            Some(runtrail::Error::InvalidInput { .. }) => USAGE,
            _ if matches!(self, Self::Usage(_) | Self::UnknownDatabase(_)) => USAGE,
            _ => FAILED,
        }
    }

    fn store_error(&self) -> Option<&runtrail::Error> {
        match self {
            Self::Opening { source, .. } | Self::Store(source) => Some(source),
            Self::NoSuchRun { missing, .. } => Some(missing),
            Self::NotRun(cause) => cause.store_error(),
            Self::Failed(_)
            | Self::Usage(_)
            | Self::UnknownDatabase(_)
            | Self::NoSuchBudget { .. }
            | Self::NoneYet { .. }
            | Self::Output(_) => None,
        }
    }

    /// Whether the same command may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        self.store_error()
            .is_some_and(runtrail::Error::is_transient)
    }

    /// Whether no database is known, or the database failed. A refusal of invalid input doesn't
    /// count.
    pub(crate) fn is_about_database(&self) -> bool {
        use runtrail::ErrorKind;
        if let Self::UnknownDatabase(_) = self {
            return true;
        }
        self.store_error()
            .is_some_and(|err| !matches!(err.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge))
    }

    fn advice(&self) -> Option<&'static str> {
        use runtrail::Error;
        Some(match self.store_error()? {
            Error::SchemaMissing => "run `runtrail migrate` to create them",
            Error::SchemaOutdated { .. } => "run `runtrail migrate` to update it",
            Error::SchemaTooNew { .. } => "use a newer runtrail",
            Error::SchemaForeign { .. } => "use another database or another schema",
            Error::SchemaIncomplete { .. } => {
                "on PostgreSQL `runtrail migrate` adds a missing foreign key; otherwise copy the \
                history to another database"
            }
            Error::UnsupportedEncoding { .. } => {
                "create one with `CREATE DATABASE … ENCODING 'UTF8'`"
            }
            Error::StorageFull { .. } => "free some space and try again",
            Error::ReadOnly { .. } => {
                "check that you may write to it, and that the URL names the primary and not a \
                standby"
            }
            Error::Busy { .. } => "another connection holds a lock; try again",
            Error::Timeout { source } if is_cancelled(&**source) => {
                "the server's statement_timeout is too short, or the statement was cancelled"
            }
            Error::Timeout { .. } => "check that the database is running and that the URL is right",
            Error::Backend { source, .. }
                if DriverErrorKind::is_about_prepared_statements(&**source) =>
            {
                "behind a pooler, use --without-prepared-statements"
            }
            Error::Backend { source, .. } if is_missing_file(&**source) => {
                "check the path; `runtrail exec` or `runtrail migrate` creates a new file"
            }
            Error::Backend { .. } if matches!(self, Self::Opening { .. }) => {
                "check the URL, your permissions, and whether the database is reachable"
            }
            _ => return None,
        })
    }
}

/// Whether the server cancelled the statement.
fn is_cancelled(source: &(dyn Error + 'static)) -> bool {
    DriverErrorKind::of_source(source) == Some(DriverErrorKind::Timeout)
}

fn is_missing_file(source: &(dyn Error + 'static)) -> bool {
    use runtrail_db::ConnectError;
    matches!(source.downcast_ref(), Some(ConnectError::NoSuchFile))
}
