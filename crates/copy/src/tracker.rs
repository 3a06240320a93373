//! Counts the outcome of each row, and reports differences and progress to the observer.

use std::fmt;

use runtrail_entity::skill_run_log;

use crate::digest::Digest;
use crate::history::{CopiedRow, ScannedRow};
use crate::report::{Difference, DifferenceKind, Notice, PassSummary, RowKey, Tally};
use crate::rows::Pair;

/// The purpose of a pass over both histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Writes the rows that the target lacks.
    Copy,
    /// Does the same before a verification. This pass may compare less and reports no differences,
    /// since the verification finds and reports all of them.
    CopyBeforeVerify,
    /// Compares every row, and writes nothing.
    Verify,
}

pub(crate) struct PassTracker<'a> {
    pub(crate) observer: &'a (dyn Fn(Notice) + Sync),
    pub(crate) purpose: Purpose,
    /// Whether missing rows make the copy incomplete.
    pub(crate) is_last: bool,
    pub(crate) summary: PassSummary,
}

/// A row of the source, compared with the target.
pub(crate) enum ComparedRow<M> {
    Same(M),
    New(M),
    Different { source: M, target: M },
}

impl PassTracker<'_> {
    pub(crate) fn is_writing(&self) -> bool {
        self.purpose != Purpose::Verify
    }

    pub(crate) fn report_start(&self, (runs, events): (u64, u64)) {
        (self.observer)(Notice::Begun {
            is_verification: !self.is_writing(),
            runs,
            events,
        });
    }

    pub(crate) fn report_progress(&self, runs: u64, events: u64) {
        (self.observer)(Notice::Read { runs, events });
    }

    /// Compares a row of the source with the target. Returns `None` if there is nothing left to do,
    /// which includes refused rows and rows that only the target has.
    pub(crate) fn compare<M: CopiedRow>(&mut self, pair: Pair<M>) -> Option<ComparedRow<M>> {
        let (mut source, target) = match pair {
            Pair::Source(source) => (source, None),
            Pair::Both(source, target) => (source, Some(target)),
            Pair::Target(target) => {
                self.extra(target);
                return None;
            }
        };
        M::tally(&mut self.summary).read += 1;
        let target = match target {
            None => None,
            Some(ScannedRow {
                content: Err(err), ..
            }) => {
                let reason = format!("the target's row can't be read: {err}");
                self.refuse::<M>(source.key.as_ref(), &reason);
                return None;
            }
            Some(row) => self.with_digest(row),
        };
        if let Some((_, digest)) = &target {
            self.summary.target.add(*digest);
        }
        let adapted = std::mem::take(&mut source.adapted);
        let (source, digest) = self.with_digest(source)?;
        self.summary.source.add(digest);
        M::tally(&mut self.summary).adapted += u64::from(!adapted.is_empty());
        for reason in adapted {
            self.report::<M>(Some(&source.key()), DifferenceKind::Adapted(reason));
        }
        Some(match target {
            None => ComparedRow::New(source),
            Some((_, target_digest)) if target_digest == digest => {
                M::tally(&mut self.summary).same += 1;
                ComparedRow::Same(source)
            }
            Some((target, _)) => ComparedRow::Different { source, target },
        })
    }

    fn extra<M: CopiedRow>(&mut self, row: ScannedRow<M>) {
        M::tally(&mut self.summary).extra += 1;
        self.report::<M>(row.key.as_ref(), DifferenceKind::Extra);
        if let Some((_, digest)) = self.with_digest(row) {
            self.summary.target.add(digest);
        }
    }

    /// Returns a row with its digest; counts it as refused if it can't be used.
    fn with_digest<M: CopiedRow>(&mut self, row: ScannedRow<M>) -> Option<(M, Digest)> {
        match row.content {
            Ok(row) => {
                let digest = Digest::of(&row);
                Some((row, digest))
            }
            Err(err) => {
                self.refuse::<M>(row.key.as_ref(), &err);
                None
            }
        }
    }

    /// Records a row that can't be read, or can't be stored in the target.
    pub(crate) fn refuse<M: CopiedRow>(
        &mut self,
        key: Option<&M::Key>,
        reason: &impl fmt::Display,
    ) {
        M::tally(&mut self.summary).refused += 1;
        self.report::<M>(key, DifferenceKind::Refused(reason.to_string()));
    }

    pub(crate) fn conflict<M: CopiedRow>(&mut self, row: &M) {
        M::tally(&mut self.summary).conflicts += 1;
        self.report::<M>(Some(&row.key()), DifferenceKind::Conflict);
    }

    /// Records a row that is missing or outdated in the target, and that a further pass writes.
    pub(crate) fn behind<M: CopiedRow>(&mut self, row: &M, kind: DifferenceKind) {
        self.behind_by_key::<M>(&row.key(), kind);
    }

    /// Like [`behind`](Self::behind), for a row of which only the key is known.
    pub(crate) fn behind_by_key<M: CopiedRow>(&mut self, key: &M::Key, kind: DifferenceKind) {
        M::tally(&mut self.summary).behind += 1;
        self.report::<M>(Some(key), kind);
    }

    /// Records an event whose run is missing from the target, or conflicts with the target's run.
    pub(crate) fn blocked(&mut self, event: &skill_run_log::Model) {
        self.summary.events.blocked += 1;
        self.report::<skill_run_log::Model>(Some(&event.key()), DifferenceKind::Missing);
    }

    /// Records an event whose run doesn't exist in the source.
    pub(crate) fn orphan(&mut self, key: &(String, i64), digest: Digest) {
        self.summary.source.remove(digest);
        self.summary.events.orphans += 1;
        self.report::<skill_run_log::Model>(Some(key), DifferenceKind::Orphan);
    }

    /// Records the attempt to write a row. If the row wasn't stored, another process has written a
    /// row with its key since the comparison; a further pass compares the two.
    pub(crate) fn written<M: CopiedRow>(
        &mut self,
        row: &M,
        is_stored: bool,
        count: fn(&mut Tally) -> &mut u64,
    ) {
        if is_stored {
            *count(M::tally(&mut self.summary)) += 1;
        } else {
            self.behind(row, DifferenceKind::Missing);
        }
    }

    /// Records how a budget differs.
    pub(crate) fn budget(&mut self, name: &str, kind: DifferenceKind) {
        let tally = &mut self.summary.budgets;
        match kind {
            DifferenceKind::Conflict => tally.conflicts += 1,
            DifferenceKind::Extra => tally.extra += 1,
            _ => tally.behind += 1,
        }
        let name = name.to_owned();
        self.report_row(RowKey::Budget { name }, kind);
    }

    fn report<M: CopiedRow>(&self, key: Option<&M::Key>, kind: DifferenceKind) {
        self.report_row(M::row_key(key.cloned()), kind);
    }

    fn report_row(&self, row: RowKey, kind: DifferenceKind) {
        let is_reported = match (self.purpose, &kind) {
            (Purpose::CopyBeforeVerify, _) | (Purpose::Copy, DifferenceKind::Extra) => false,
            (
                Purpose::Copy,
                DifferenceKind::Missing | DifferenceKind::Unfinished | DifferenceKind::OtherLabels,
            ) => self.is_last,
            _ => true,
        };
        if is_reported {
            (self.observer)(Notice::Difference(Difference { row, kind }));
        }
    }
}
