//! Rows as they are stored, for a copy of a whole history.

use runtrail_audit::Result;
use runtrail_db::{Pool, Session, backend};
use runtrail_entity::{skill_run, skill_run_log};
use sea_orm::QueryResult;
use sea_orm::sea_query::{SelectStatement, TableRef};

use crate::codec;
use crate::statements::{self, finishes, logs, starts};
use crate::store::AuditStore;

/// The rows of a store as they are stored, neither decoded nor encoded.
///
/// They are for a copy of a whole history. Everything else reads and writes through the traits of `runtrail_audit`.
#[derive(Clone, Copy, Debug)]
pub struct StoredRows<'a>(&'a AuditStore);

impl AuditStore {
    /// The rows of this store, for a copy of the whole history.
    pub fn stored_rows(&self) -> StoredRows<'_> {
        StoredRows(self)
    }
}

impl<'a> StoredRows<'a> {
    /// The most rows that are given to one call here.
    pub const MOST_AT_ONCE: usize = statements::MOST_AT_ONCE;

    /// The most bytes of text that these rows have together, unless it is a single one.
    pub const MOST_BYTES_AT_ONCE: usize = statements::MOST_BYTES_AT_ONCE;

    /// Begins a call that reads.
    ///
    /// # Errors
    ///
    /// The `Schema…` variants of [`Error`](runtrail_audit::Error), and the database's own failures.
    pub async fn read(&self) -> Result<Session<'a, Pool>> {
        let session = self.0.reading().await?;
        Ok(session.with_settings(&self.0.settings.timing))
    }

    /// The table of runs.
    pub fn runs(&self) -> TableRef {
        self.0.settings.runs()
    }

    /// The table of events.
    pub fn logs(&self) -> TableRef {
        self.0.settings.logs()
    }

    /// All columns of runs, for [`run`](Self::run).
    pub fn select_runs(&self) -> SelectStatement {
        self.0.settings.select_runs()
    }

    /// All columns of events, for [`log`](Self::log).
    pub fn select_logs(&self) -> SelectStatement {
        self.0.settings.select_logs()
    }

    /// The run of a row.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](runtrail_audit::Error::Corrupt).
    pub fn run(row: &QueryResult) -> Result<skill_run::Model> {
        codec::read_run(row)
    }

    /// The event of a row.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](runtrail_audit::Error::Corrupt).
    pub fn log(row: &QueryResult) -> Result<skill_run_log::Model> {
        codec::read_log(row)
    }

    /// Whether a text may have a NUL character.
    pub fn hold_nul(&self) -> bool {
        backend::holds_nul(self.0.connection())
    }

    /// Inserts runs with distinct ids, and returns for each whether it is stored as it is. A run that is there already
    /// doesn't change.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn insert_runs(&self, rows: &[skill_run::Model]) -> Result<Vec<bool>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        starts::insert(&self.0.writing().await?, rows).await
    }

    /// Finishes running runs as these are finished, and returns for each whether it is.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn finish_runs(&self, rows: &[skill_run::Model]) -> Result<Vec<bool>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        finishes::finish_as(&self.0.writing().await?, rows).await
    }

    /// Appends events, and returns the answer to each.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn append_events(&self, rows: &[skill_run_log::Model]) -> Result<Vec<Result<()>>> {
        let rows: Vec<_> = rows.iter().collect();
        logs::append_many(&self.0.writing().await?, &rows).await
    }
}
