//! What a copy tells, on the way and at its end.

use std::collections::BTreeMap;
use std::fmt;

use crate::Digest;

/// What a copy tells on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// It begins to go through the source.
    Begun {
        /// Whether it only compares.
        is_verification: bool,
        /// How many runs there are now.
        runs: u64,
        /// How many events there are now.
        events: u64,
    },
    /// It has come further.
    Read {
        /// Runs of the source since it last told.
        runs: u64,
        /// Events of the source since it last told.
        events: u64,
    },
    /// A row isn't the same on both sides, or not stored as it was. Where a copy is verified, it is the verification that
    /// tells.
    Difference(Difference),
}

/// A row, by its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RowKey {
    /// A run.
    Run {
        /// Its id.
        id: String,
    },
    /// An event.
    Event {
        /// The id of its run.
        run_id: String,
        /// Its place within the run.
        sequence: i64,
    },
    /// A run whose id is none.
    UnusableRun,
    /// An event whose key is none.
    UnusableEvent,
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { id } => write!(f, "run {id:?}"),
            Self::Event { run_id, sequence } => write!(f, "event {sequence} of run {run_id:?}"),
            Self::UnusableRun => f.write_str("a run without a usable id"),
            Self::UnusableEvent => f.write_str("an event without a usable key"),
        }
    }
}

/// A row that isn't the same on both sides, or not stored as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The row.
    pub row: RowKey,
    /// What is the matter with it.
    pub kind: DifferenceKind,
}

/// What is the matter with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The target has it with other content, which stays.
    Conflict,
    /// Only the source has it.
    Missing,
    /// A run that has finished in the source and is running in the target.
    Unfinished,
    /// Only the target has it.
    Extra,
    /// It can't be read, or not be stored in the target; in words that follow the row.
    Refused(String),
    /// An event whose run isn't in the source; no history has a place for it. It doesn't make a copy incomplete.
    Orphan,
    /// A value of a legacy store was stored in another form; in words that follow the row. It doesn't make a copy
    /// incomplete.
    Adapted(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, kind } = self;
        match kind {
            DifferenceKind::Unfinished => write!(f, "{row} is still running in the target"),
            DifferenceKind::Conflict => write!(f, "{row} is in the target with other content"),
            DifferenceKind::Missing => write!(f, "{row} is missing in the target"),
            DifferenceKind::Extra => write!(f, "{row} is only in the target"),
            DifferenceKind::Refused(reason) => write!(f, "{row} can't be copied: {reason}"),
            DifferenceKind::Orphan => write!(f, "{row} has no run, and is left out"),
            DifferenceKind::Adapted(reason) => write!(f, "{row} was adapted: {reason}"),
        }
    }
}

/// What has become of the rows of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Rows of the source that were read.
    pub read: u64,
    /// Rows that were the same on both sides already. Before a verification, events of which both sides have as many are
    /// taken for that.
    pub same: u64,
    /// Rows that were written.
    pub copied: u64,
    /// Runs that were finished in the target, since they have finished in the source.
    pub finished: u64,
    /// Rows that the target has with other content.
    pub conflicts: u64,
    /// Rows that can't be read, or not be stored in the target.
    pub refused: u64,
    /// Rows that the target hasn't as they are now, and that a further copy brings: those that came to the source, or were
    /// finished there, after this one had passed them.
    pub behind: u64,
    /// Events that were left out since their run couldn't be copied.
    pub blocked: u64,
    /// Rows that only the target has.
    pub extra: u64,
    /// Events without a run.
    pub orphans: u64,
    /// Rows of a legacy store that were stored in another form.
    pub adapted: u64,
}

/// What going through both histories once has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PassSummary {
    /// Of runs.
    pub runs: Tally,
    /// Of events.
    pub events: Tally,
    /// All that was read from the source but orphans, as it is to be stored.
    pub source: Digest,
    /// All that was read from the target.
    pub target: Digest,
}

/// How many runs of a skill have a status, where that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountDifference {
    /// The skill.
    pub skill_id: String,
    /// The status.
    pub status: String,
    /// How many the source has.
    pub source: u64,
    /// How many the target has.
    pub target: u64,
}

impl fmt::Display for CountDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            skill_id,
            status,
            source,
            target,
        } = self;
        write!(
            f,
            "runs of skill {skill_id:?} with status {status:?}: {source} in the source, {target} in the target"
        )
    }
}

/// What a copy has done and found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopySummary {
    /// Whether the source is a legacy history. Its events without a run are left out; from a history of this library they
    /// would be lost, so they count as refused.
    pub is_legacy: bool,
    /// Whether it was the last pass.
    pub is_last: bool,
    /// What was copied.
    pub copied: PassSummary,
    /// What was found when both were read once more.
    pub verified: Option<PassSummary>,
    /// Skills and statuses whose number of runs differs; looked at where both are read once more.
    pub counts: Vec<CountDifference>,
}

impl CopySummary {
    /// Whether everything that can be copied has been.
    pub fn is_complete(&self) -> bool {
        self.shortfall().is_none()
    }

    /// In what the target falls short of the source, if it does: by conflicts and by what can't be copied; in the last
    /// pass by what is missing; and, where both were compared, by any difference at all.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let pass = self.verified.as_ref().unwrap_or(&self.copied);
        let rows = |count: fn(&Tally) -> u64| count(&pass.runs) + count(&pass.events);
        let is_verified = self.verified.is_some();
        let shortfall = Shortfall {
            conflicts: rows(|tally| tally.conflicts),
            refused: rows(|tally| tally.refused)
                + if self.is_legacy {
                    0
                } else {
                    pass.events.orphans
                },
            missing: match self.is_last || is_verified {
                true => rows(|tally| tally.behind + tally.blocked),
                false => 0,
            },
            extra: match is_verified {
                true => rows(|tally| tally.extra),
                false => 0,
            },
        };
        let is_same = !is_verified || (pass.source == pass.target && self.counts.is_empty());
        (shortfall != Shortfall::default() || !is_same).then_some(shortfall)
    }
}

/// In what a target falls short of its source; `Display` says it in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortfall {
    /// Rows that the target has with other content.
    pub conflicts: u64,
    /// Rows that can't be read, or not be stored in the target.
    pub refused: u64,
    /// Rows that the target hasn't, or has unfinished.
    pub missing: u64,
    /// Rows that only the target has.
    pub extra: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.conflicts, "with other content"),
            (self.refused, "that can't be copied"),
            (self.missing, "missing or unfinished"),
            (self.extra, "only in the target"),
        ];
        let mut separator = "";
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{separator}{count} row{plural} {what}")?;
            separator = ", ";
        }
        match separator {
            // Which nothing explains.
            "" => f.write_str("the digests or the numbers of runs differ"),
            _ => Ok(()),
        }
    }
}

/// How many runs there are for each skill and status.
pub(crate) type Counts = BTreeMap<(String, String), u64>;

pub(crate) fn differing(source: Counts, mut target: Counts) -> Vec<CountDifference> {
    let mut differences = Vec::new();
    let mut compare = |(skill_id, status), source, target| {
        if source != target {
            differences.push(CountDifference {
                skill_id,
                status,
                source,
                target,
            });
        }
    };
    for (of, source) in source {
        let target = target.remove(&of).unwrap_or(0);
        compare(of, source, target);
    }
    for (of, target) in target {
        compare(of, 0, target);
    }
    differences
}
