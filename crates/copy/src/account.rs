//! What has become of each row: counted, and told.

use std::fmt;

use runtrail_entity::skill_run_log;

use crate::digest::Digest;
use crate::history::{Copied, Found};
use crate::report::{Difference, DifferenceKind, Notice, PassSummary, Tally};
use crate::rows::Pair;

/// What both histories are gone through for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To write what the target hasn't.
    Copy,
    /// The same, before it is verified: as the verification finds all that is the matter then, this may look less closely,
    /// and tells nothing.
    CopyToVerify,
    Verify,
}

pub(crate) struct Account<'a> {
    pub(crate) observer: &'a (dyn Fn(Notice) + Sync),
    pub(crate) purpose: Purpose,
    /// Whether nothing may be behind any more.
    pub(crate) is_last: bool,
    pub(crate) summary: PassSummary,
}

/// A row of the source, as the target has it.
pub(crate) enum Compared<M> {
    Same(M),
    New(M),
    Other { source: M, target: M },
}

impl Account<'_> {
    pub(crate) fn is_writing(&self) -> bool {
        self.purpose != Purpose::Verify
    }

    pub(crate) fn begun(&self, (runs, events): (u64, u64)) {
        (self.observer)(Notice::Begun {
            is_verification: !self.is_writing(),
            runs,
            events,
        });
    }

    pub(crate) fn progress(&self, runs: u64, events: u64) {
        (self.observer)(Notice::Read { runs, events });
    }

    /// What the target has of a row of the source; none if there is nothing to do about it.
    pub(crate) fn compare<M: Copied>(&mut self, pair: Pair<M>) -> Option<Compared<M>> {
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
            Some(Found {
                content: Err(err), ..
            }) => {
                let reason = format!("the target's row can't be read: {err}");
                self.refuse::<M>(source.key.as_ref(), &reason);
                return None;
            }
            Some(found) => self.readable(found),
        };
        if let Some((_, digest)) = &target {
            self.summary.target.add(*digest);
        }
        let adapted = std::mem::take(&mut source.adapted);
        let (source, digest) = self.readable(source)?;
        self.summary.source.add(digest);
        M::tally(&mut self.summary).adapted += u64::from(!adapted.is_empty());
        for reason in adapted {
            self.tell::<M>(Some(&source.key()), DifferenceKind::Adapted(reason));
        }
        Some(match target {
            None => Compared::New(source),
            Some((_, of_target)) if of_target == digest => {
                M::tally(&mut self.summary).same += 1;
                Compared::Same(source)
            }
            Some((target, _)) => Compared::Other { source, target },
        })
    }

    fn extra<M: Copied>(&mut self, found: Found<M>) {
        M::tally(&mut self.summary).extra += 1;
        self.tell::<M>(found.key.as_ref(), DifferenceKind::Extra);
        if let Some((_, digest)) = self.readable(found) {
            self.summary.target.add(digest);
        }
    }

    /// A row that was found, with its digest, unless it can't be used.
    fn readable<M: Copied>(&mut self, found: Found<M>) -> Option<(M, Digest)> {
        match found.content {
            Ok(row) => {
                let digest = Digest::of(&row);
                Some((row, digest))
            }
            Err(err) => {
                self.refuse::<M>(found.key.as_ref(), &err);
                None
            }
        }
    }

    /// A row that can't be read, or not be stored in the target.
    pub(crate) fn refuse<M: Copied>(&mut self, key: Option<&M::Key>, reason: &impl fmt::Display) {
        M::tally(&mut self.summary).refused += 1;
        self.tell::<M>(key, DifferenceKind::Refused(reason.to_string()));
    }

    pub(crate) fn conflict<M: Copied>(&mut self, row: &M) {
        M::tally(&mut self.summary).conflicts += 1;
        self.tell::<M>(Some(&row.key()), DifferenceKind::Conflict);
    }

    /// A row that the target hasn't as it is now, and that a further pass brings.
    pub(crate) fn behind<M: Copied>(&mut self, row: &M, kind: DifferenceKind) {
        self.behind_at::<M>(&row.key(), kind);
    }

    /// The same of one of which only the key is known.
    pub(crate) fn behind_at<M: Copied>(&mut self, key: &M::Key, kind: DifferenceKind) {
        M::tally(&mut self.summary).behind += 1;
        self.tell::<M>(Some(key), kind);
    }

    /// An event whose run the target hasn't, or has as another one.
    pub(crate) fn blocked(&mut self, event: &skill_run_log::Model) {
        self.summary.events.blocked += 1;
        self.tell::<skill_run_log::Model>(Some(&event.key()), DifferenceKind::Missing);
    }

    /// An event whose run isn't there at all.
    pub(crate) fn orphan(&mut self, key: &(String, i64), digest: Digest) {
        self.summary.source.remove(digest);
        self.summary.events.orphans += 1;
        self.tell::<skill_run_log::Model>(Some(key), DifferenceKind::Orphan);
    }

    /// A row that was to be written. If it isn't, somebody else has written another one since it was looked for, with
    /// which a further pass will compare it.
    pub(crate) fn written<M: Copied>(
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

    fn tell<M: Copied>(&self, key: Option<&M::Key>, kind: DifferenceKind) {
        let is_told = match (self.purpose, &kind) {
            (Purpose::CopyToVerify, _) | (Purpose::Copy, DifferenceKind::Extra) => false,
            (Purpose::Copy, DifferenceKind::Missing | DifferenceKind::Unfinished) => self.is_last,
            _ => true,
        };
        if is_told {
            let row = M::name(key.cloned());
            (self.observer)(Notice::Difference(Difference { row, kind }));
        }
    }
}
