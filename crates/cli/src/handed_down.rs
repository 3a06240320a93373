//! Passes the database of a run to nested `runtrail` commands, whatever their working directory.
//!
//! No variable contains any part of a password, since agents print their environment. The URL of a PostgreSQL database
//! is in a file that only the user can read, and that is deleted when the run ends.

use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use runtrail::{DatabaseOptions, SchemaName};
use tempfile::{Builder, TempPath};

use crate::database::{URL, WITHOUT_PREPARED_STATEMENTS};
use crate::failure::{Failure, Result};

/// The URL of a SQLite file.
const INHERITED_URL: &str = "RUNTRAIL_DATABASE_URL";
/// The path of a file with any other URL.
const INHERITED_URL_FILE: &str = "RUNTRAIL_DATABASE_URL_FILE";
/// The value of `DATABASE_URL`, without its password: if the program changes that, the new value takes precedence.
const INHERITED_INSTEAD_OF: &str = "RUNTRAIL_DATABASE_URL_INSTEAD_OF";
const INHERITED_SCHEMA: &str = "RUNTRAIL_DATABASE_SCHEMA";

/// Keeps the file with the URL until it is dropped.
pub(crate) struct HandedDown {
    /// Variables to set in the environment, or to remove from it (`None`).
    pub(crate) variables: [(&'static str, Option<String>); 5],
    _file: Option<TempPath>,
}

impl HandedDown {
    /// Hands down no database: a nested `runtrail` uses the one that its own arguments or environment name.
    pub(crate) fn nothing() -> Self {
        Self {
            variables: [
                (INHERITED_URL, None),
                (INHERITED_URL_FILE, None),
                (INHERITED_INSTEAD_OF, None),
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
        let there = variable(URL);
        let (url, secret) = match database_url.starts_with("sqlite:") {
            true => (Some(database_url.to_owned()), None),
            // Not if the program already has the same `DATABASE_URL`.
            false => (
                None,
                Some(database_url).filter(|url| there.as_deref() != Some(*url)),
            ),
        };
        let file = secret.map(write_file).transpose().map_err(|err| {
            Failure::failed(format!(
                "the URL of the database can't be handed down: {err}"
            ))
        })?;
        let name = file
            .as_ref()
            .map(|file| file.to_string_lossy().into_owned());
        let there = there.as_deref().map(without_password);
        Ok(Self {
            variables: [
                (INHERITED_URL, url),
                (INHERITED_URL_FILE, name),
                (INHERITED_INSTEAD_OF, Some(there.unwrap_or_default())),
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

/// The inherited URL.
pub(crate) fn url() -> Option<String> {
    inherited(INHERITED_URL).or_else(|| fs::read_to_string(inherited(INHERITED_URL_FILE)?).ok())
}

/// The inherited schema.
pub(crate) fn schema() -> Option<String> {
    inherited(INHERITED_SCHEMA)
}

/// Fails if the file with the inherited URL can't be read any more, or if the URL was in `DATABASE_URL` and was removed.
pub(crate) fn ensure_known() -> Result<()> {
    let is_removed = variable(INHERITED_INSTEAD_OF).is_some() && variable(URL).is_none();
    let is_handed_down = variable(INHERITED_URL)
        .or_else(|| variable(INHERITED_URL_FILE))
        .is_some();
    if is_removed && !is_handed_down {
        return Err(Failure::usage(format!(
            "the database of the run around this one is not known, as {URL} was removed; give --database-url, or set {URL}"
        )));
    }
    match inherited(INHERITED_URL_FILE).map(fs::read_to_string) {
        Some(Err(err)) => Err(Failure::usage(format!(
            "the database of the run around this one is not known, as its {INHERITED_URL_FILE} can't be read: {err}; \
             give --database-url, or set {URL}"
        ))),
        _ => Ok(()),
    }
}

/// A variable of the environment; an empty one counts as unset.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable of the surrounding `runtrail exec`. A `DATABASE_URL` that the program has removed names no other database.
fn inherited(name: &str) -> Option<String> {
    let instead_of = env::var(INHERITED_INSTEAD_OF).ok()?;
    let there = variable(URL).as_deref().map(without_password);
    let is_unchanged = there.is_none_or(|there| there == instead_of);
    variable(name).filter(|_| is_unchanged)
}

fn without_password(url: &str) -> String {
    DatabaseOptions::new(url).to_string()
}

/// Writes a file that only the user can read.
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
