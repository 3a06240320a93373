//! Which changes of runs a stream has delivered.

use std::collections::{HashSet, VecDeque};
use std::hash::Hasher;

use fnv::FnvHasher;
use runtrail_audit::{RunSummary, rules};
use serde::{Deserialize, Serialize};

/// How long before the present a run may have started or finished when it is stored, in
/// microseconds. Clocks differ, and a write takes a while.
const OVERLAP: i64 = 10_000_000;

/// The number of changes that are remembered.
const MAX_CHANGES: usize = 1_000;

/// The changes that have been delivered: all before a time, and some after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecentRuns {
    /// Runs that started before this time, in microseconds, have been delivered.
    #[serde(rename = "s")]
    starts: i64,
    /// Runs that finished before this time have been delivered.
    #[serde(rename = "f")]
    finishes: i64,
    /// The latest changes, in the order in which they were delivered.
    #[serde(rename = "c")]
    changes: VecDeque<Change>,
    #[serde(skip)]
    keys: HashSet<u64>,
}

/// A hash of the state of a run, and when the run started and finished.
type Change = (u64, i64, Option<i64>);

impl RecentRuns {
    /// Nothing that may still be stored has been delivered, but all that has started and finished
    /// before that.
    pub(super) fn until(now: i64) -> Self {
        let until = now.saturating_sub(OVERLAP);
        Self {
            starts: until,
            finishes: until,
            changes: VecDeque::new(),
            keys: HashSet::new(),
        }
    }

    /// Nothing has been delivered. Runs that finish from now on count as changed.
    pub(super) fn nothing(now: i64) -> Self {
        Self {
            starts: i64::MIN,
            ..Self::until(now)
        }
    }

    /// Completes a value from a cursor.
    pub(super) fn with_keys(mut self) -> Self {
        self.changes.truncate(MAX_CHANGES);
        self.keys = self.changes.iter().map(|(key, ..)| *key).collect();
        self
    }

    /// The start times of runs that may have to be delivered. A run with a later time is delivered
    /// when that time comes.
    pub(super) fn starts(&self, now: i64) -> (i64, i64) {
        (self.starts, now.saturating_add(OVERLAP))
    }

    /// The finish times of runs that may have to be delivered.
    pub(super) fn finishes(&self, now: i64) -> (i64, i64) {
        (self.finishes, now.saturating_add(OVERLAP))
    }

    /// All runs that started before this one have been delivered.
    pub(super) fn advance_starts(&mut self, run: &RunSummary, now: i64) {
        let settled = rules::micros(run.started_at).min(now.saturating_sub(OVERLAP));
        self.starts = self.starts.max(settled);
    }

    /// Everything that was stored at this time has been delivered.
    pub(super) fn advance(&mut self, now: i64) {
        let settled = now.saturating_sub(OVERLAP);
        self.starts = self.starts.max(settled);
        self.finishes = self.finishes.max(settled);
    }

    /// Adds the state of a run; returns whether it is new.
    pub(super) fn insert(&mut self, run: &RunSummary, now: i64) -> bool {
        let key = key(run);
        if !self.keys.insert(key) {
            return false;
        }
        // A time in the far future must not end the window.
        let latest = now.saturating_add(OVERLAP);
        let started = rules::micros(run.started_at).min(latest);
        let finished = run.finished_at.map(|at| rules::micros(at).min(latest));
        self.changes.push_back((key, started, finished));
        if self.changes.len() > MAX_CHANGES
            && let Some(oldest) = self.changes.pop_front()
        {
            self.keys.remove(&oldest.0);
            (self.starts, self.finishes) = self.without(&oldest);
        }
        true
    }

    /// Returns the latest changes, at most this number.
    pub(super) fn latest(&self, limit: usize) -> Self {
        let mut latest = Self {
            starts: self.starts,
            finishes: self.finishes,
            changes: VecDeque::new(),
            keys: HashSet::new(),
        };
        let forgotten = self.changes.len().saturating_sub(limit);
        for change in self.changes.range(..forgotten) {
            (latest.starts, latest.finishes) = latest.without(change);
        }
        latest.changes.extend(self.changes.range(forgotten..));
        latest
    }

    /// The times before which everything counts as delivered once this change is forgotten.
    fn without(&self, (_, started, finished): &Change) -> (i64, i64) {
        let after = |time: i64| time.saturating_add(1);
        (
            self.starts.max(after(*started)),
            finished.map_or(self.finishes, |at| self.finishes.max(after(at))),
        )
    }
}

/// A hash of the state of a run, which has the same result in every build.
fn key(run: &RunSummary) -> u64 {
    let finished_at = run.finished_at.map_or(i64::MIN, rules::micros);
    let mut hasher = FnvHasher::default();
    hasher.write(run.id.as_bytes());
    hasher.write_u8(0);
    hasher.write(run.status.as_str().as_bytes());
    hasher.write(&finished_at.to_le_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn run(micros: i64) -> RunSummary {
        let started_at = DateTime::from_timestamp_micros(micros).unwrap();
        RunSummary::new(format!("run-{micros}"), "skill", started_at)
    }

    #[test]
    fn each_state_of_a_run_is_new_once() {
        let mut recent = RecentRuns::until(0);
        let mut run = run(5);
        assert!(recent.insert(&run, 0));
        assert!(!recent.insert(&run, 0));
        run.finished_at = Some(run.started_at);
        assert!(recent.insert(&run, 0));
        let json = serde_json::to_string(&recent.latest(64)).unwrap();
        let read: RecentRuns = serde_json::from_str(&json).unwrap();
        assert_eq!(read.with_keys(), recent);
    }

    #[test]
    fn what_is_forgotten_counts_as_delivered() {
        let mut recent = RecentRuns::until(0);
        for micros in 1..=MAX_CHANGES as i64 + 1 {
            recent.insert(&run(micros), 0);
        }
        assert_eq!(recent.starts(0), (2, OVERLAP));
        assert_eq!(recent.finishes(0), (-OVERLAP, OVERLAP));
        assert_eq!(recent.latest(10).starts(0).0, MAX_CHANGES as i64 - 8);
        recent.advance(OVERLAP + 7);
        assert_eq!(recent.starts(0).0, 7);
    }

    #[test]
    fn a_run_of_the_far_future_does_not_end_the_window() {
        let mut recent = RecentRuns::until(0);
        recent.insert(&run(i64::from(i32::MAX)), 0);
        assert_eq!(recent.latest(0).starts(0).0, OVERLAP + 1);
    }
}
