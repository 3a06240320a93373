//! Copying a history from one database to another, and making sure that it is the same.
//!
//! A copy goes through both histories in the order of their keys, compares each row by its digest, and writes those that
//! the target hasn't: so it needs no notes about how far it has come. Ended at any moment and run again, it writes the
//! rest; run twice, it changes nothing; and while the source is written to, each further one carries over what has come.
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
//! // While the host goes on.
//! HistoryCopy::new(from.clone(), to.clone()).run(&|_| {}).await?;
//! // Once it has stopped.
//! let summary = HistoryCopy::new(from, to).last().run(&|_| {}).await?;
//! assert!(summary.is_complete());
//! # Ok(())
//! # }
//! ```

mod account;
mod digest;
mod history;
mod legacy;
mod pass;
mod report;
mod rows;
mod target;

use std::sync::Arc;

use runtrail_audit::Result;
use runtrail_store::AuditStore;

use self::account::{Account, Purpose};
use self::history::History;
use self::pass::Pass;

pub use self::digest::Digest;
pub use self::legacy::LegacyStore;
pub use self::report::{
    CopySummary, CountDifference, Difference, DifferenceKind, Notice, PassSummary, RowKey,
    Shortfall, Tally,
};

/// A copy of all runs and events from one history into another.
///
/// Rows are copied as they are stored, to the byte: identifiers, sequence numbers and times stay what they are, and
/// cursors of the source go on in the target.
/// A row that the target has with other content is never overwritten; it is a [conflict](DifferenceKind::Conflict).
/// The one change that a row of the target sees is that a run is finished there which has finished in the source since.
///
/// However much there is to copy, a few pages of 1,000 rows or 4 MiB are held in memory, whichever is less: some 40 MiB in
/// all with small values, and less than 200 with values of 1 MiB.
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
    /// A copy that may be made while the source is written to.
    ///
    /// The target has to be [initialized](runtrail_audit::Storage::initialize).
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

    /// The last pass, after the host has stopped: nothing may be missing, and it is [verified](Self::verified).
    pub fn last(self) -> Self {
        Self {
            is_last: true,
            verifies: true,
            ..self
        }
    }

    /// Reads both histories once more after the copy, and compares every row and the number of runs for each skill and
    /// status.
    ///
    /// Any difference counts, also what the source has been given in the meantime. The copy before it passes over events of
    /// which both sides have as many: should some be missing there for all that, one that isn't verified brings them.
    pub fn verified(self) -> Self {
        Self {
            verifies: true,
            ..self
        }
    }

    /// Leaves that out of the last pass, say where the target has other runs besides.
    pub fn unverified(self) -> Self {
        Self {
            verifies: false,
            ..self
        }
    }

    /// Copies, on a tokio runtime, and tells the observer of each difference and of the way it goes.
    ///
    /// What can't be copied keeps nothing else from being copied: whether all has been is in the
    /// [summary](CopySummary::shortfall).
    ///
    /// When the future is dropped, what has been written stays, and the next copy writes what is still missing.
    ///
    /// # Errors
    ///
    /// The failures of either database that don't pass by themselves, among them the `Schema…` variants of
    /// [`Error`](runtrail_audit::Error) where one isn't a history or isn't initialized. A
    /// [deadline](AuditStore::with_deadline) has to allow for counting all rows.
    /// [`InvalidInput`](runtrail_audit::Error::InvalidInput) for a legacy database whose keys aren't in the order of
    /// their bytes.
    pub async fn run(&self, observer: &(dyn Fn(Notice) + Sync)) -> Result<CopySummary> {
        let pass = |purpose| {
            let account = Account {
                observer,
                purpose,
                is_last: self.is_last,
                summary: PassSummary::default(),
            };
            Pass::new(Arc::clone(&self.source), &self.target, account).run()
        };
        let mut summary = CopySummary {
            is_legacy: self.is_legacy,
            is_last: self.is_last,
            copied: PassSummary::default(),
            verified: None,
            counts: Vec::new(),
        };
        if self.verifies {
            summary.copied = pass(Purpose::CopyToVerify).await?;
            summary.verified = Some(pass(Purpose::Verify).await?);
            let source = self.source.counts().await?;
            let target = History::counts(&self.target).await?;
            summary.counts = report::differing(source, target);
        } else {
            summary.copied = pass(Purpose::Copy).await?;
        }
        Ok(summary)
    }
}

/// Where a copy comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A history of this library.
    Store(AuditStore),
    /// One of the design that this library follows.
    Legacy(LegacyStore),
}

impl Source {
    /// Closes its connections, as [`AuditStore::close`] does.
    ///
    /// # Errors
    ///
    /// The database's own failures.
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
