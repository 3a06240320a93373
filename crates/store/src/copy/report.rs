//! What a copy tells, on the way and at its end.

use std::collections::BTreeMap;
use std::fmt;

use super::Digest;

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
    /// A row isn't the same on both sides, or not stored as it was.
    Difference(Difference),
}

/// A row, by its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// A run.
    Run {
        /// Its id, as far as it can be read.
        id: String,
    },
    /// An event.
    Event {
        /// The id of its run, as far as it can be read.
        run_id: String,
        /// Its place within the run; negative if it can't be read.
        sequence: i64,
    },
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { id } => write!(f, "run {id:?}"),
            Self::Event { run_id, sequence } if *sequence < 0 => {
                write!(f, "an event of run {run_id:?}")
            }
            Self::Event { run_id, sequence } => write!(f, "event {sequence} of run {run_id:?}"),
        }
    }
}

/// A row that isn't the same on both sides, or not stored as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The row.
    pub row: Row,
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
    /// A value of an older store was stored in another form; in words that follow the row. It doesn't make a copy
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
    /// Rows that were the same on both sides already.
    pub same: u64,
    /// Rows that were written.
    pub copied: u64,
    /// Runs that were finished in the target, since they have finished in the source.
    pub finished: u64,
    /// Rows that the target has with other content.
    pub conflicts: u64,
    /// Rows that can't be read, or not be stored in the target.
    pub refused: u64,
    /// Rows that the target hasn't as they are now: those that came to the source, or were finished there, after the
    /// copy had passed them, and events of a run that wasn't copied.
    pub behind: u64,
    /// Rows that only the target has.
    pub extra: u64,
    /// Events without a run.
    pub orphans: u64,
    /// Rows of an older store that were stored in another form.
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
            "skill {skill_id:?} has {source} runs with status {status:?} in the source and {target} in the target"
        )
    }
}

/// What a copy has done and found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopySummary {
    /// Whether it was the last pass.
    pub is_last: bool,
    /// What was copied.
    pub copied: PassSummary,
    /// What was found when both were read once more.
    pub verified: Option<PassSummary>,
    /// Skills and statuses whose number of runs differs; looked at when the last pass is verified.
    pub counts: Vec<CountDifference>,
}

impl CopySummary {
    /// Whether everything that can be copied has been: no conflict and nothing refused; in the last pass nothing behind;
    /// and, where it was verified, nothing that only the target has, and in the last pass the same digest and counts.
    pub fn is_complete(&self) -> bool {
        let is_copied = |pass: &PassSummary| {
            [pass.runs, pass.events].iter().all(|tally| {
                tally.conflicts + tally.refused == 0 && !(self.is_last && tally.behind > 0)
            })
        };
        let is_verified = |pass: &PassSummary| {
            is_copied(pass)
                && pass.runs.extra + pass.events.extra == 0
                && (!self.is_last || pass.source == pass.target)
        };
        is_copied(&self.copied)
            && self.verified.as_ref().is_none_or(is_verified)
            && self.counts.is_empty()
    }
}

/// How many runs there are for each skill and status.
pub(super) type Counts = BTreeMap<(String, String), u64>;

pub(super) fn differing(source: Counts, mut target: Counts) -> Vec<CountDifference> {
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
