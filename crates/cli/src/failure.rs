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

/// Why a command fails, in one line that says what was wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Failed(String),
    /// The arguments fit together as clap sees it, and yet make no sense.
    #[error("{0}")]
    Usage(String),
    #[error("the database {database} can't be used")]
    Opening {
        database: String,
        source: runtrail::Error,
    },
    #[error(transparent)]
    Store(#[from] runtrail::Error),
    /// With similar ids that the user may have meant.
    #[error("{missing}")]
    NoSuchRun {
        missing: runtrail::Error,
        similar: Vec<String>,
    },
    /// `@last` and the like where no run fits.
    #[error("no run is recorded that {given} could mean")]
    NoneYet { given: String },
    #[error("the output can't be written")]
    Output(#[from] io::Error),
    /// A program that was to be recorded.
    #[error("nothing was run")]
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
            return Self::Failed(format!("{message}; migrate without the pooler between"));
        }
        Self::Failed(message)
    }

    /// Tells it on stderr, and gives its exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if let Self::Output(err) = self
            && err.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever was reading, `head` say, has seen enough.
            return ExitCode::SUCCESS;
        }
        note(format!("error: {}", self.in_one_line()));
        ExitCode::from(self.exit_code())
    }

    /// What was wrong, and what to do.
    pub(crate) fn in_one_line(&self) -> String {
        let message = with_causes(self).replace(['\n', '\r'], " ");
        if let Self::NoSuchRun { similar, .. } = self {
            return match similar.is_empty() {
                true => format!("{message}; `runtrail list` shows the newest"),
                false => format!("{message}; is it one of {}?", similar.join(", ")),
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
            None if matches!(self, Self::NoneYet { .. }) => NOT_FOUND,
            Some(runtrail::Error::InvalidInput { .. }) => USAGE,
            _ if matches!(self, Self::Usage(_)) => USAGE,
            _ => FAILED,
        }
    }

    fn store_error(&self) -> Option<&runtrail::Error> {
        match self {
            Self::Opening { source, .. } | Self::Store(source) => Some(source),
            Self::NoSuchRun { missing, .. } => Some(missing),
            Self::NotRun(cause) => cause.store_error(),
            Self::Failed(_) | Self::Usage(_) | Self::NoneYet { .. } | Self::Output(_) => None,
        }
    }

    /// Whether the same may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        self.store_error()
            .is_some_and(runtrail::Error::is_transient)
    }

    /// Whether it is the database that failed, rather than what it was asked for.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        use runtrail::ErrorKind;
        self.store_error()
            .is_some_and(|err| !matches!(err.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge))
    }

    fn advice(&self) -> Option<&'static str> {
        use runtrail::Error;
        Some(match self.store_error()? {
            Error::SchemaMissing => "`runtrail migrate` makes them",
            Error::SchemaOutdated { .. } => "`runtrail migrate` brings it up to date",
            Error::SchemaTooNew { .. } => "use a newer runtrail",
            Error::SchemaForeign { .. } => "use another database, or another schema",
            Error::SchemaIncomplete { .. } => {
                "`runtrail migrate` adds a foreign key on PostgreSQL; otherwise copy the history to another database"
            }
            Error::UnsupportedEncoding { .. } => "`CREATE DATABASE … ENCODING 'UTF8'` makes one",
            Error::StorageFull { .. } => "make room, and try again",
            Error::ReadOnly { .. } => {
                "may you write the file, and does the URL lead to the primary?"
            }
            Error::Busy { .. } => "somebody holds a lock on it; try again",
            Error::Timeout { source } if is_cancelled(&**source) => {
                "its statement_timeout is too short, or somebody cancelled the statement"
            }
            Error::Timeout { .. } => "is it running, and is the URL right?",
            Error::Backend { source, .. }
                if DriverErrorKind::is_about_prepared_statements(&**source) =>
            {
                "a pooler stands between: --without-prepared-statements works with it"
            }
            Error::Backend { source, .. } if is_missing_file(&**source) => {
                "`runtrail exec` and `runtrail migrate` make one"
            }
            Error::Backend { .. } if matches!(self, Self::Opening { .. }) => {
                "is the URL right, and may you use what it names?"
            }
            _ => return None,
        })
    }
}

/// Whether the server itself has ended the statement.
fn is_cancelled(source: &(dyn Error + 'static)) -> bool {
    DriverErrorKind::of_source(source) == Some(DriverErrorKind::Timeout)
}

fn is_missing_file(source: &(dyn Error + 'static)) -> bool {
    use runtrail_db::ConnectError;
    matches!(source.downcast_ref(), Some(ConnectError::NoSuchFile))
}
