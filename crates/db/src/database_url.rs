//! Parsing of database URLs.

use std::fmt;

use sea_orm::DbBackend;

use crate::postgres_url::PostgresUrl;
use crate::sqlite_url::SqliteUrl;
use crate::{ConnectError, Result};

/// A parsed URL, without its text, so that no message can repeat a password.
#[derive(Clone)]
pub(crate) enum DatabaseUrl {
    Sqlite(SqliteUrl),
    Postgres(PostgresUrl),
    /// The reason, in words that follow "the database URL", and the kind of database if the prefix names one.
    Unusable(&'static str, Option<DbBackend>),
}

impl DatabaseUrl {
    /// The prefix decides the kind of database, whose rules apply to the rest.
    pub(crate) fn read(url: &str) -> Self {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Self::Unusable(UNKNOWN_KIND, None);
        };
        let (kind, read) = match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => (DbBackend::Sqlite, SqliteUrl::read(rest).map(Self::Sqlite)),
            "postgres" | "postgresql" => {
                let read = PostgresUrl::read(scheme, rest);
                (DbBackend::Postgres, read.map(Self::Postgres))
            }
            _ => return Self::Unusable(UNKNOWN_KIND, None),
        };
        read.unwrap_or_else(|reason| Self::Unusable(reason, Some(kind)))
    }

    /// Which kind of database it names.
    pub(crate) fn backend(&self) -> Result<DbBackend> {
        let kind = match self {
            Self::Sqlite(_) | Self::Unusable(_, Some(DbBackend::Sqlite)) => DbBackend::Sqlite,
            Self::Postgres(_) | Self::Unusable(_, Some(_)) => DbBackend::Postgres,
            Self::Unusable(reason, None) => return Err(ConnectError::InvalidUrl { reason }),
        };
        let is_sqlite = kind == DbBackend::Sqlite;
        let is_built =
            (is_sqlite && cfg!(feature = "sqlite")) || (!is_sqlite && cfg!(feature = "postgres"));
        let reason = match self {
            _ if !is_built => MISSING_FEATURE,
            Self::Unusable(reason, _) => reason,
            Self::Sqlite(_) | Self::Postgres(_) => return Ok(kind),
        };
        Err(ConnectError::InvalidUrl { reason })
    }

    /// The URL of a SQLite file.
    pub(crate) fn sqlite(&self) -> Result<&SqliteUrl> {
        match (self, self.backend()?) {
            (Self::Sqlite(url), DbBackend::Sqlite) => Ok(url),
            _ => Err(ConnectError::InvalidUrl {
                reason: "has to begin with sqlite:",
            }),
        }
    }
}

const UNKNOWN_KIND: &str = "has to begin with sqlite: or postgres:";
pub(crate) const MISSING_FEATURE: &str =
    "needs a cargo feature that this build leaves out: `sqlite` or `postgres`";

/// Prints the place of the database, and never anything that may be part of a password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(url) => url.fmt(f),
            Self::Postgres(url) => url.fmt(f),
            Self::Unusable(..) => f.write_str("(not a database URL)"),
        }
    }
}
