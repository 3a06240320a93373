//! Copies a history from one database to another, and verifies the copy.
//!
//! A copy reads both histories in key order, compares rows by digest, and writes the rows that the
//! target lacks. It stores no progress: a copy that was interrupted is run again and writes the
//! rest. Running it twice changes nothing. While the source is still written to, each further copy
//! adds the new rows.
//!
//! ```no_run
//! use runtrail_store::AuditStore;
//! use runtrail_audit::{Error, Storage};
//! use runtrail_copy::HistoryCopy;
//!
//! # async fn example() -> Result<(), Error> {
//! let from = AuditStore::connect("sqlite://runtrail.db").await?;
//! let to = AuditStore::connect("postgres://me@db/app").await?;
//! to.initialize().await?;
//! // While the host is running.
//! HistoryCopy::new(from.clone(), to.clone()).run(&|_| {}).await?;
//! // Once it has stopped.
//! let summary = HistoryCopy::new(from, to).last().run(&|_| {}).await?;
//! assert!(summary.is_complete());
//! # Ok(())
//! # }
//! ```

mod budgets;
mod digest;
mod history;
mod legacy;
mod pass;
mod report;
mod rows;
mod target;
mod tracker;

use std::sync::Arc;

use runtrail_audit::Result;
use runtrail_store::AuditStore;

use self::history::History;
use self::pass::Pass;
use self::tracker::{PassTracker, Purpose};

pub use self::digest::Digest;
pub use self::legacy::LegacyStore;
pub use self::report::{
    CopySummary, CountDifference, Difference, DifferenceKind, Notice, PassSummary, RowKey,
    Shortfall, Tally,
};

/// A copy of all runs and events from one history into another, with the budgets.
///
/// Rows are copied byte for byte: identifiers, sequence numbers and times don't change, and cursors
/// of the source are valid in the target.
/// A row whose content differs in the target is never overwritten; it is a
/// [conflict](DifferenceKind::Conflict).
/// The only updates to a row of the target finish a run that has finished in the source since it
/// was copied, or replace the labels of a run with those that it has in the source.
///
/// A budget is copied with what it has used, so that nothing can be spent twice after a move. If
/// the target already has it, what it has used there is raised to what it has used in the source,
/// and never lowered. Reservations aren't copied.
///
/// Memory use doesn't depend on the size of the history. A few pages are in memory at a time, each
/// of 1,000 rows or 4 MiB, whichever is less: about 40 MiB in all with small values, and less than
/// 200 MiB with values of 1 MiB.
#[derive(Clone, Debug)]
#[must_use]
pub struct HistoryCopy {
    source: Arc<dyn History>,
    is_legacy: bool,
    target: AuditStore,
    is_last: bool,
    verifies: bool,
}

impl HistoryCopy {
    /// Creates a copy that may run while the source is written to.
    ///
    /// The target must be [initialized](runtrail_audit::Storage::initialize).
    pub fn new(source: impl Into<Source>, target: AuditStore) -> Self {
        let (source, is_legacy): (Arc<dyn History>, bool) = match source.into() {
            Source::Store(store) => (Arc::new(store), false),
            Source::Legacy(store) => (Arc::new(store), true),
        };
        Self {
            source,
            is_legacy,
            target,
            is_last: false,
            verifies: false,
        }
    }

    /// Makes this the last pass, to run after the host has stopped: missing rows make the copy
    /// incomplete, and the copy is [verified](Self::verified).
    pub fn last(self) -> Self {
        Self {
            is_last: true,
            verifies: true,
            ..self
        }
    }

    /// Reads both histories again after the copy, and compares every row and the number of runs for
    /// each skill and status.
    ///
    /// Any difference makes the copy incomplete, even rows that were written to the source in the
    /// meantime. Before a verification, the copy doesn't compare the events of a range of runs if
    /// both sides have the same number of them. If the verification finds events missing from such
    /// a range, run a copy without verification to write them.
    pub fn verified(self) -> Self {
        Self {
            verifies: true,
            ..self
        }
    }

    /// Skips the verification of the last pass, for example because the target also has other runs.
    pub fn unverified(self) -> Self {
        Self {
            verifies: false,
            ..self
        }
    }

    /// Copies, and reports differences and progress to the observer. Needs a tokio runtime.
    ///
    /// A row that can't be copied doesn't stop the copy; the [summary](CopySummary::shortfall) says
    /// whether everything was copied.
    ///
    /// If the future is dropped, rows already written stay, and the next copy writes the rest.
    ///
    /// # Errors
    ///
    /// Permanent failures of either database, among them the `Schema…` variants of
    /// [`Error`](runtrail_audit::Error) if it isn't a history or isn't initialized, and
    /// [`Backend`](runtrail_audit::Error::Backend) if row-level security may hide its rows. A
    /// [deadline](AuditStore::with_deadline) must leave time to count all rows.
    /// [`InvalidInput`](runtrail_audit::Error::InvalidInput) for a legacy database whose keys
    /// aren't in byte order.
    pub async fn run(&self, observer: &(dyn Fn(Notice) + Sync)) -> Result<CopySummary> {
        self.source.verify_visibility().await?;
        self.target.verify_visibility().await?;
        let pass = |purpose| {
            let tracker = PassTracker {
                observer,
                purpose,
                is_last: self.is_last,
                summary: PassSummary::default(),
            };
            Pass::new(Arc::clone(&self.source), &self.target, tracker).run()
        };
        let mut summary = CopySummary {
            is_legacy: self.is_legacy,
            is_last: self.is_last,
            copied: PassSummary::default(),
            verified: None,
            counts: Vec::new(),
        };
        if self.verifies {
            summary.copied = pass(Purpose::CopyBeforeVerify).await?;
            summary.verified = Some(pass(Purpose::Verify).await?);
            let source = self.source.counts().await?;
            let target = History::counts(&self.target).await?;
            summary.counts = report::count_differences(source, target);
        } else {
            summary.copied = pass(Purpose::Copy).await?;
        }
        Ok(summary)
    }
}

/// The source of a copy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A Runtrail history.
    Store(AuditStore),
    /// A history of the legacy Go store.
    Legacy(LegacyStore),
}

impl Source {
    /// Closes the source's connections, as [`AuditStore::close`] does.
    ///
    /// # Errors
    ///
    /// Failures of the database.
    pub async fn close(self) -> Result<()> {
        match self {
            Self::Store(store) => store.close().await,
            Self::Legacy(store) => store.close().await,
        }
    }
}

impl From<AuditStore> for Source {
    fn from(store: AuditStore) -> Self {
        Self::Store(store)
    }
}

impl From<LegacyStore> for Source {
    fn from(store: LegacyStore) -> Self {
        Self::Legacy(store)
    }
}
