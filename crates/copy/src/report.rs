//! The notices of a copy in progress, and its summary.

use std::collections::BTreeMap;
use std::fmt;

use crate::Digest;

/// A notice from a copy in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A pass over the source begins.
    Begun {
        /// Whether the pass only compares.
        is_verification: bool,
        /// The current number of runs in the source.
        runs: u64,
        /// The current number of events in the source.
        events: u64,
    },
    /// More rows were read.
    Read {
        /// Runs read from the source since the last notice.
        runs: u64,
        /// Events read from the source since the last notice.
        events: u64,
    },
    /// A row differs between the sides, or was stored in another form. If the copy is verified,
    /// only the verification reports differences.
    Difference(Difference),
}

/// The key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RowKey {
    /// A run.
    Run {
        /// The id of the run.
        id: String,
    },
    /// An event.
    Event {
        /// The id of its run.
        run_id: String,
        /// Its sequence number within the run.
        sequence: i64,
    },
    /// A budget.
    Budget {
        /// Its name.
        name: String,
    },
    /// A run without a usable id.
    UnusableRun,
    /// An event without a usable key.
    UnusableEvent,
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { id } => write!(f, "run {id:?}"),
            Self::Event { run_id, sequence } => write!(f, "event {sequence} of run {run_id:?}"),
            Self::Budget { name } => write!(f, "budget {name:?}"),
            Self::UnusableRun => f.write_str("a run without a usable id"),
            Self::UnusableEvent => f.write_str("an event without a usable key"),
        }
    }
}

/// A row that differs between the sides, or was stored in another form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key of the row.
    pub row: RowKey,
    /// How it differs.
    pub kind: DifferenceKind,
}

/// How a row differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The content differs in the target, and is not overwritten.
    Conflict,
    /// Only the source has it.
    Missing,
    /// A run that has finished in the source and is running in the target.
    Unfinished,
    /// A run whose labels differ in the target.
    OtherLabels,
    /// A budget that has used less in the target, so that too much could be spent.
    LessUsed,
    /// Only the target has it.
    Extra,
    /// The row can't be read, or can't be stored in the target. The text is the reason.
    Refused(String),
    /// An event whose run isn't in the source, so that no history can store it. It makes a copy
    /// incomplete unless the source is a legacy store.
    Orphan,
    /// A value of a legacy store was stored in another form, which the text describes. It doesn't
    /// make a copy incomplete.
    Adapted(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, kind } = self;
        match kind {
            DifferenceKind::Unfinished => write!(f, "{row} is still running in the target"),
            DifferenceKind::OtherLabels => write!(f, "{row} has different labels in the target"),
            DifferenceKind::LessUsed => write!(f, "{row} has used less in the target"),
            DifferenceKind::Conflict => write!(f, "{row} has different content in the target"),
            DifferenceKind::Missing => write!(f, "{row} is missing from the target"),
            DifferenceKind::Extra => write!(f, "{row} exists only in the target"),
            DifferenceKind::Refused(reason) => write!(f, "{row} can't be copied: {reason}"),
            DifferenceKind::Orphan => write!(f, "{row} has no run and is skipped"),
            DifferenceKind::Adapted(reason) => write!(f, "{row} was adapted: {reason}"),
        }
    }
}

/// Counts the outcomes for the rows of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Rows of the source that were read.
    pub read: u64,
    /// Rows that were already the same on both sides. Before a verification, this includes events
    /// that were only counted: those of a range where both sides have the same number.
    pub same: u64,
    /// Rows that were written.
    pub copied: u64,
    /// Runs that the copy finished in the target, because they have finished in the source.
    pub finished: u64,
    /// Runs whose labels the copy updated in the target.
    pub labelled: u64,
    /// Rows whose content differs in the target.
    pub conflicts: u64,
    /// Rows that can't be read, or can't be stored in the target.
    pub refused: u64,
    /// Rows that are missing or outdated in the target: they were written, finished or
    /// labelled in the source after this copy had read past them. A further copy writes them.
    pub behind: u64,
    /// Events that were skipped because their run couldn't be copied.
    pub blocked: u64,
    /// Rows that only the target has.
    pub extra: u64,
    /// Events without a run.
    pub orphans: u64,
    /// Rows of a legacy store that were stored in another form.
    pub adapted: u64,
}

/// The result of one pass over both histories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PassSummary {
    /// Counts of runs.
    pub runs: Tally,
    /// Counts of events.
    pub events: Tally,
    /// Counts of budgets.
    pub budgets: Tally,
    /// The digest of all runs and events read from the source, in the form in which they are
    /// stored, without orphans.
    pub source: Digest,
    /// The digest of all runs and events read from the target.
    pub target: Digest,
}

/// A skill and status whose number of runs differs between the sides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountDifference {
    /// The skill.
    pub skill_id: String,
    /// The status.
    pub status: String,
    /// The number of runs in the source.
    pub source: u64,
    /// The number of runs in the target.
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
            "runs of skill {skill_id:?} with status {status:?}: {source} in the source, {target} \
            in the target"
        )
    }
}

/// The result of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopySummary {
    /// Whether the source is a legacy history. If it is, events without a run are skipped; if not,
    /// they count as refused.
    pub is_legacy: bool,
    /// Whether it was the last pass.
    pub is_last: bool,
    /// The pass that copied.
    pub copied: PassSummary,
    /// The pass that verified, if any.
    pub verified: Option<PassSummary>,
    /// Skills and statuses whose number of runs differs. Empty without a verification.
    pub counts: Vec<CountDifference>,
}

impl CopySummary {
    /// Whether the copy has no [shortfall](Self::shortfall).
    pub fn is_complete(&self) -> bool {
        self.shortfall().is_none()
    }

    /// What the target lacks, if anything. Conflicts and rows that can't be copied always count;
    /// missing rows count in the last pass; after a verification, any difference counts.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let pass = self.verified.as_ref().unwrap_or(&self.copied);
        let tallies = [pass.runs, pass.events, pass.budgets];
        let rows = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
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

/// What a target lacks compared with its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortfall {
    /// Rows whose content differs in the target.
    pub conflicts: u64,
    /// Rows that can't be read, or can't be stored in the target.
    pub refused: u64,
    /// Rows that are missing or outdated in the target.
    pub missing: u64,
    /// Rows that only the target has.
    pub extra: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.conflicts, "with different content"),
            (self.refused, "that can't be copied"),
            (self.missing, "missing or outdated"),
            (self.extra, "only in the target"),
        ];
        let mut separator = "";
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{separator}{count} row{plural} {what}")?;
            separator = ", ";
        }
        match separator {
            // No row accounts for the difference.
            "" => f.write_str("the digests or the run counts differ"),
            _ => Ok(()),
        }
    }
}

/// The number of runs for each skill and status.
pub(crate) type Counts = BTreeMap<(String, String), u64>;

pub(crate) fn count_differences(source: Counts, mut target: Counts) -> Vec<CountDifference> {
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
    for (key, source) in source {
        let target = target.remove(&key).unwrap_or(0);
        compare(key, source, target);
    }
    for (key, target) in target {
        compare(key, 0, target);
    }
    differences
}
