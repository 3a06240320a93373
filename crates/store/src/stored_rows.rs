//! Raw access to the stored rows, for copying a whole history.

use runtrail_audit::{Budget, OwnerRecord, Result};
use runtrail_db::{Executor, Pool, Row, Session, backend};
use runtrail_entity::{budget_usage, skill_run, skill_run_log};
use sea_orm::sea_query::{SelectStatement, TableRef};
use tracing::Span;

use crate::codec;
use crate::error;
use crate::statements::{self, budgets, finishes, labels, logs, owners, starts};
use crate::store::AuditStore;

/// Reads and writes the rows of a store without decoding or encoding them.
///
/// This is for copying a whole history. All other code uses the traits of `runtrail_audit`.
#[derive(Clone, Copy, Debug)]
pub struct StoredRows<'a>(&'a AuditStore);

impl AuditStore {
    /// Returns raw access to the rows of this store, for copying the whole history.
    pub fn stored_rows(&self) -> StoredRows<'_> {
        StoredRows(self)
    }
}

impl<'a> StoredRows<'a> {
    /// The maximum number of rows that may be passed to one call.
    pub const MAX_BATCH_ROWS: usize = statements::MAX_BATCH_ROWS;

    /// The maximum total size of the texts in these rows, in bytes; a single row may be larger.
    pub const MAX_BATCH_BYTES: usize = statements::MAX_BATCH_BYTES;

    /// Begins a call that only reads.
    ///
    /// # Errors
    ///
    /// The `Schema…` variants of [`Error`](runtrail_audit::Error), and the database's own failures.
    pub async fn read(&self) -> Result<Session<'a, Pool>> {
        let session = self.0.reading(Span::none()).await?;
        Ok(session.with_settings(&self.0.settings.timing))
    }

    /// Fails if row-level security may hide rows from this role: a copy would silently lack them.
    ///
    /// # Errors
    ///
    /// [`Backend`](runtrail_audit::Error::Backend), and the database's own failures.
    pub async fn verify_visibility(&self) -> Result<()> {
        let db = self.0.reading(Span::none()).await?;
        let migrator = db.migrator();
        let verify = || async {
            let verified = migrator.verify_visibility(db.connection()).await;
            verified.map_err(error::migration)
        };
        db.attempt(verify).await
    }

    /// Returns the table of runs.
    pub fn runs(&self) -> TableRef {
        self.0.settings.runs()
    }

    /// Returns the table of events.
    pub fn logs(&self) -> TableRef {
        self.0.settings.logs()
    }

    /// Selects all columns of runs; [`run`](Self::run) reads the resulting rows.
    pub fn select_runs(&self) -> SelectStatement {
        self.0.settings.select_runs()
    }

    /// Selects all columns of events; [`log`](Self::log) reads the resulting rows.
    pub fn select_logs(&self) -> SelectStatement {
        self.0.settings.select_logs()
    }

    /// Reads a run from a row.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](runtrail_audit::Error::Corrupt).
    pub fn run(row: Row) -> Result<skill_run::Model> {
        codec::read_run(row)
    }

    /// Reads an event from a row.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](runtrail_audit::Error::Corrupt).
    pub fn log(row: Row) -> Result<skill_run_log::Model> {
        codec::read_log(row)
    }

    /// Returns whether the database can store a NUL character in a text.
    pub fn can_store_nul(&self) -> bool {
        backend::holds_nul(self.0.connection().backend())
    }

    /// Returns the owners whose ids are greater than `after`, in the order of their ids, at most
    /// [`MAX_BATCH_ROWS`](Self::MAX_BATCH_ROWS). Damaged ones are left out.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn owners(&self, after: &str) -> Result<Vec<OwnerRecord>> {
        owners::list(&self.0.reading(Span::none()).await?, after).await
    }

    /// Stores owners of another history. An owner that is already stored keeps the later of its
    /// heartbeats. Invalid ones are left out.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn put_owners(&self, records: &[OwnerRecord]) -> Result<()> {
        owners::copy(&self.0.writing(Span::none()).await?, records).await
    }

    /// Returns what each budget has used in each slot of time.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](runtrail_audit::Error::Corrupt), and the database's own failures.
    pub async fn budget_slots(&self) -> Result<Vec<budget_usage::Model>> {
        budgets::slots(&self.0.reading(Span::none()).await?).await
    }

    /// Inserts a budget, unless there is one with this name.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](runtrail_audit::Error::InvalidInput), and the database's own failures.
    pub async fn insert_budget(&self, budget: &Budget) -> Result<()> {
        budgets::insert(&self.0.writing(Span::none()).await?, budget).await
    }

    /// Makes budgets count at least what they have used in these slots. What is reserved in the
    /// slots doesn't matter.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn raise_budget_slots(&self, slots: &[budget_usage::Model]) -> Result<()> {
        budgets::raise_slots(&self.0.writing(Span::none()).await?, slots).await
    }

    /// Inserts runs with distinct ids; existing runs don't change. Returns for each run whether the
    /// stored run now equals it.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn insert_runs(&self, rows: &[skill_run::Model]) -> Result<Vec<bool>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        starts::insert(&self.0.writing(Span::none()).await?, rows).await
    }

    /// Replaces labels of stored runs with those of these rows. Next to each row are the labels that
    /// it replaces; if the stored run has others by now, it doesn't change. Returns for each run
    /// whether it had these labels.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn label_runs(
        &self,
        rows: &[(skill_run::Model, Option<String>)],
    ) -> Result<Vec<bool>> {
        labels::copy(&self.0.writing(Span::none()).await?, rows).await
    }

    /// Finishes stored runs that are still running or were interrupted, with the outcomes and times
    /// of these rows. Returns for each run whether it is now finished this way.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn finish_runs(&self, rows: &[skill_run::Model]) -> Result<Vec<bool>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        finishes::finish_copied(&self.0.writing(Span::none()).await?, rows).await
    }

    /// Appends events, and returns a result for each one.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub async fn append_events(&self, rows: &[skill_run_log::Model]) -> Result<Vec<Result<()>>> {
        let rows: Vec<_> = rows.iter().collect();
        logs::append_many(&self.0.writing(Span::none()).await?, &rows).await
    }
}
