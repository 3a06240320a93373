//! Copying a history from one database to another, and making sure that it is the same.
//!
//! A copy goes through both histories in the order of their keys, compares each row by its digest, and writes those that
//! the target hasn't: so it needs no notes about how far it has come. Ended at any moment and run again, it goes on;
//! run twice, it changes nothing; and while the source is written to, each further pass carries over what has been added.
//!
//! ```no_run
//! use runtrail_store::AuditStore;
//! use runtrail_store::audit::{Error, Storage};
//! use runtrail_store::copy::HistoryCopy;
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

mod digest;
mod history;
mod legacy;
mod pass;
mod report;
mod rows;
mod target;

use std::sync::Arc;

use runtrail_audit::Result;

use self::history::History;
use self::pass::{Pass, Purpose, Writes};
use crate::store::AuditStore;

pub use self::digest::Digest;
pub use self::legacy::LegacyStore;
pub use self::report::{
    CopySummary, CountDifference, Difference, DifferenceKind, Notice, PassSummary, Row, Tally,
};

/// A copy of all runs and events from one history into another.
///
/// Rows are copied as they are stored, to the byte: identifiers, sequence numbers and times stay what they are, and
/// cursors of the source go on in the target.
/// A row that the target has with other content is never overwritten; it is a [conflict](DifferenceKind::Conflict).
/// The one change that a row of the target sees is that a run is finished there which has finished in the source since.
///
/// At most some 50 MiB are held in memory with values up to 1 MiB, however much there is to copy.
#[derive(Clone, Debug)]
pub struct HistoryCopy {
    source: Arc<dyn History>,
    target: AuditStore,
    is_last: bool,
    verifies: bool,
}

impl HistoryCopy {
    /// A copy that may be made while the source is written to.
    ///
    /// The target has to be [initialized](runtrail_audit::Storage::initialize).
    pub fn new(source: impl Into<Source>, target: AuditStore) -> Self {
        let source: Arc<dyn History> = match source.into() {
            Source::Store(store) => Arc::new(store),
            Source::Legacy(store) => Arc::new(store),
        };
        Self {
            source,
            target,
            is_last: false,
            verifies: false,
        }
    }

    /// The last pass, after the host has stopped: it verifies, and every difference that is left counts.
    pub fn last(self) -> Self {
        Self {
            is_last: true,
            verifies: true,
            ..self
        }
    }

    /// Whether to read both histories once more after the copy, and compare every row and the number of runs for each
    /// skill and status; yes for the [`last`](Self::last) pass, no for others.
    ///
    /// Before the last pass, what the source has been given in the meantime is no difference.
    pub fn verified(self, verifies: bool) -> Self {
        Self { verifies, ..self }
    }

    /// Copies, and tells the observer of each difference and of the way it goes.
    ///
    /// What can't be copied keeps nothing else from being copied: whether all has been is in the
    /// [summary](CopySummary::is_complete).
    ///
    /// When the future is dropped, what has been written stays, and the next copy goes on from there.
    ///
    /// # Errors
    ///
    /// The failures of either database that don't pass by themselves.
    pub async fn run(&self, observer: &(dyn Fn(Notice) + Sync)) -> Result<CopySummary> {
        let pass = |purpose| Pass {
            source: Arc::clone(&self.source),
            target: &self.target,
            observer,
            purpose,
            is_last: self.is_last,
            summary: PassSummary::default(),
            writes: Writes::new(),
        };
        let copied = pass(match self.verifies {
            true => Purpose::CopyToVerify,
            false => Purpose::Copy,
        });
        let mut summary = CopySummary {
            is_last: self.is_last,
            copied: copied.run().await?,
            verified: None,
            counts: Vec::new(),
        };
        if self.verifies {
            summary.verified = Some(pass(Purpose::Verify).run().await?);
        }
        if self.verifies && self.is_last {
            let source = self.source.counts().await?;
            let target = History::counts(&self.target).await?;
            summary.counts = report::differing(source, target);
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
