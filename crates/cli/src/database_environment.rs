//! Passes the database of a run to nested `runtrail` commands, whatever their working directory.
//!
//! No variable contains any part of a password, since agents print their environment. The URL of a
//! PostgreSQL database is in a file that only the user can read, and that is deleted when the run
//! ends.

use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use runtrail::{DatabaseOptions, SchemaName};
use tempfile::{Builder, TempPath};

use crate::failure::{Failure, Result};

pub(crate) const URL: &str = "DATABASE_URL";
pub(crate) const WITHOUT_PREPARED_STATEMENTS: &str = "RUNTRAIL_WITHOUT_PREPARED_STATEMENTS";

/// The URL of a SQLite file.
const INHERITED_URL: &str = "RUNTRAIL_DATABASE_URL";
/// The path of a file that contains the URL of any other database.
const INHERITED_URL_FILE: &str = "RUNTRAIL_DATABASE_URL_FILE";
/// The outer value of `DATABASE_URL`, without its password. If the program changes `DATABASE_URL`,
/// the new value takes precedence over the inherited URL.
const OUTER_DATABASE_URL: &str = "RUNTRAIL_DATABASE_URL_INSTEAD_OF";
const INHERITED_SCHEMA: &str = "RUNTRAIL_DATABASE_SCHEMA";

/// Environment variables that name the database of a run. The file with the URL is deleted on drop.
pub(crate) struct DatabaseEnvironment {
    /// Variables to set, or to remove (`None`).
    pub(crate) variables: [(&'static str, Option<String>); 5],
    _file: Option<TempPath>,
}

impl DatabaseEnvironment {
    /// Names no database: a nested `runtrail` uses the one from its own arguments or environment.
    pub(crate) fn cleared() -> Self {
        Self {
            variables: [
                (INHERITED_URL, None),
                (INHERITED_URL_FILE, None),
                (OUTER_DATABASE_URL, None),
                (INHERITED_SCHEMA, None),
                (WITHOUT_PREPARED_STATEMENTS, None),
            ],
            _file: None,
        }
    }

    pub(crate) fn new(
        database_url: &str,
        schema: Option<SchemaName>,
        without_prepared_statements: bool,
    ) -> Result<Self> {
        let current = variable(URL);
        let (url, url_in_file) = match database_url.starts_with("sqlite:") {
            true => (Some(database_url.to_owned()), None),
            // No file is needed if the program's `DATABASE_URL` already is this URL.
            false => (
                None,
                Some(database_url).filter(|url| current.as_deref() != Some(*url)),
            ),
        };
        let file = url_in_file.map(write_file).transpose().map_err(|err| {
            Failure::failed(format!(
                "the database URL can't be passed to the program: {err}"
            ))
        })?;
        let path = file
            .as_ref()
            .map(|file| file.to_string_lossy().into_owned());
        let outer = current.as_deref().map(without_password);
        Ok(Self {
            variables: [
                (INHERITED_URL, url),
                (INHERITED_URL_FILE, path),
                (OUTER_DATABASE_URL, Some(outer.unwrap_or_default())),
                (INHERITED_SCHEMA, schema.map(|schema| schema.to_string())),
                (
                    WITHOUT_PREPARED_STATEMENTS,
                    without_prepared_statements.then(|| "1".to_owned()),
                ),
            ],
            _file: file,
        })
    }
}

/// Returns the inherited URL.
pub(crate) fn url() -> Option<String> {
    inherited(INHERITED_URL).or_else(|| fs::read_to_string(inherited(INHERITED_URL_FILE)?).ok())
}

/// Returns the inherited schema.
pub(crate) fn schema() -> Option<String> {
    inherited(INHERITED_SCHEMA)
}

/// Fails if the file with the inherited URL can't be read any more, or if the outer run's URL was
/// in a `DATABASE_URL` that the program removed.
pub(crate) fn ensure_known() -> Result<()> {
    let is_removed = variable(OUTER_DATABASE_URL).is_some() && variable(URL).is_none();
    let is_inherited = variable(INHERITED_URL)
        .or_else(|| variable(INHERITED_URL_FILE))
        .is_some();
    if is_removed && !is_inherited {
        return Err(Failure::UnknownDatabase(format!(
            "the database of the outer run is unknown, because {URL} was removed from the \
             environment; give --database-url, or set {URL}"
        )));
    }
    match inherited(INHERITED_URL_FILE).map(fs::read_to_string) {
        Some(Err(err)) => Err(Failure::UnknownDatabase(format!(
            "the database of the outer run is unknown, because the file in {INHERITED_URL_FILE} \
             can't be read: {err}; give --database-url, or set {URL}"
        ))),
        _ => Ok(()),
    }
}

/// Reads an environment variable. An empty one counts as unset.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads a variable that the outer `runtrail exec` has set. Ignores it if the program has changed
/// `DATABASE_URL`; removing `DATABASE_URL` is no change, since that names no other database.
fn inherited(name: &str) -> Option<String> {
    let outer = env::var(OUTER_DATABASE_URL).ok()?;
    let current = variable(URL).as_deref().map(without_password);
    let is_unchanged = current.is_none_or(|current| current == outer);
    variable(name).filter(|_| is_unchanged)
}

fn without_password(url: &str) -> String {
    DatabaseOptions::new(url).to_string()
}

/// Writes the URL to a temporary file that only the user can read.
fn write_file(url: &str) -> std::io::Result<TempPath> {
    let folder = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.is_dir());
    let mut builder = Builder::new();
    builder.prefix("runtrail-");
    let mut file = match folder.map(|folder| builder.tempfile_in(folder)) {
        Some(Ok(file)) => file,
        _ => builder.tempfile()?,
    };
    file.write_all(url.as_bytes())?;
    Ok(file.into_temp_path())
}
