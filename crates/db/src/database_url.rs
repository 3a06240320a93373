//! Parsing of database URLs.

use std::fmt;

use sea_orm::DbBackend;

use crate::postgres_url::PostgresUrl;
use crate::sqlite_url::SqliteUrl;
use crate::{ConnectError, Result};

/// A parsed URL without its original text, so that no message can repeat a password.
#[derive(Clone)]
pub(crate) enum DatabaseUrl {
    Sqlite(SqliteUrl),
    Postgres(PostgresUrl),
    /// The reason, as a phrase that follows "the database URL", and the kind of database if the
    /// scheme is known.
    Unusable(&'static str, Option<DbBackend>),
}

impl DatabaseUrl {
    /// Parses a URL. The scheme determines the kind of database, whose rules apply to the rest.
    pub(crate) fn parse(url: &str) -> Self {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Self::Unusable(UNKNOWN_KIND, None);
        };
        let (kind, parsed) = match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => (DbBackend::Sqlite, SqliteUrl::parse(rest).map(Self::Sqlite)),
            "postgres" | "postgresql" => {
                let parsed = PostgresUrl::parse(scheme, rest);
                (DbBackend::Postgres, parsed.map(Self::Postgres))
            }
            _ => return Self::Unusable(UNKNOWN_KIND, None),
        };
        parsed.unwrap_or_else(|reason| Self::Unusable(reason, Some(kind)))
    }

    /// Returns the kind of database.
    pub(crate) fn backend(&self) -> Result<DbBackend> {
        let kind = match self {
            Self::Sqlite(_) | Self::Unusable(_, Some(DbBackend::Sqlite)) => DbBackend::Sqlite,
            Self::Postgres(_) | Self::Unusable(_, Some(_)) => DbBackend::Postgres,
            Self::Unusable(reason, None) => return Err(ConnectError::InvalidUrl { reason }),
        };
        let is_sqlite = kind == DbBackend::Sqlite;
        let is_enabled =
            (is_sqlite && cfg!(feature = "sqlite")) || (!is_sqlite && cfg!(feature = "postgres"));
        let reason = match self {
            _ if !is_enabled => MISSING_FEATURE,
            Self::Unusable(reason, _) => reason,
            Self::Sqlite(_) | Self::Postgres(_) => return Ok(kind),
        };
        Err(ConnectError::InvalidUrl { reason })
    }

    /// Returns the URL of a SQLite database.
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
    "needs a cargo feature that this build lacks: `sqlite` or `postgres`";

/// Prints where the database is, and never anything that may be part of a password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(url) => url.fmt(f),
            Self::Postgres(url) => url.fmt(f),
            Self::Unusable(..) => f.write_str("(not a database URL)"),
        }
    }
}
