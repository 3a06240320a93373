//! Which events of a run a stream has received.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The number of gaps that a stream remembers.
const MAX_GAPS: usize = 1_024;

/// Sequences that have not been received: all from the first one to the last one.
pub(super) type Gap = (u64, u64);

/// The sequences that have been received: all below `next`, except those in the gaps.
///
/// Only the latest gaps are remembered. A sequence in an older gap counts as received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Token", into = "Token")]
pub(super) struct Position {
    next: u64,
    /// In ascending order.
    gaps: VecDeque<Gap>,
}

/// The JSON of a position in a cursor.
#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(rename = "n")]
    next: u64,
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<Gap>,
}

impl From<Position> for Token {
    fn from(position: Position) -> Self {
        Self {
            next: position.next,
            gaps: position.gaps.into(),
        }
    }
}

impl From<Token> for Position {
    /// A client may have changed the cursor, so nothing about the gaps is certain.
    fn from(Token { next, gaps }: Token) -> Self {
        let mut position = Self::before(next);
        position.add_gaps(gaps);
        position
    }
}

impl Position {
    /// Everything below this sequence has been received.
    pub(super) fn before(next: u64) -> Self {
        Self {
            next,
            gaps: VecDeque::new(),
        }
    }

    /// Exactly these sequences have been received, and all below the smallest one. They are in
    /// descending order.
    pub(super) fn of_last(sequences: &[i64]) -> Self {
        let mut ascending = sequences.iter().rev().map(|number| number.unsigned_abs());
        let Some(first) = ascending.next() else {
            return Self::default();
        };
        let mut position = Self::before(first.saturating_add(1));
        for sequence in ascending {
            position.insert(sequence);
        }
        position
    }

    /// The smallest sequence of which no larger one has been received.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn gaps(&self) -> impl DoubleEndedIterator<Item = Gap> {
        self.gaps.iter().copied()
    }

    /// Adds a sequence; returns whether it was missing.
    pub(super) fn insert(&mut self, sequence: u64) -> bool {
        if sequence >= self.next {
            if sequence > self.next {
                self.gaps.push_back((self.next, sequence - 1));
                self.forget_old_gaps();
            }
            self.next = sequence.saturating_add(1);
            return true;
        }
        let index = self.gaps.partition_point(|(_, last)| *last < sequence);
        match self.gaps.get(index).copied() {
            Some((first, last)) if first <= sequence => {
                self.gaps.remove(index);
                if sequence < last {
                    self.gaps.insert(index, (sequence + 1, last));
                }
                if first < sequence {
                    self.gaps.insert(index, (first, sequence - 1));
                }
                self.forget_old_gaps();
                true
            }
            _ => false,
        }
    }

    /// Treats these sequences as missing, except those that are still to come.
    pub(super) fn add_gaps(&mut self, gaps: impl IntoIterator<Item = Gap>) {
        let Some(newest) = self.next.checked_sub(1) else {
            return;
        };
        let added = gaps
            .into_iter()
            .map(|(first, last)| (first, last.min(newest)));
        let mut all: Vec<Gap> = self.gaps.drain(..).chain(added).collect();
        all.retain(|(first, last)| first <= last);
        all.sort_unstable();
        for (first, last) in all {
            match self.gaps.back_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => self.gaps.push_back((first, last)),
            }
        }
        self.forget_old_gaps();
    }

    /// Returns this position with only the latest gaps.
    pub(super) fn with_gaps(&self, limit: usize) -> Self {
        let skipped = self.gaps.len().saturating_sub(limit);
        Self {
            next: self.next,
            gaps: self.gaps.iter().skip(skipped).copied().collect(),
        }
    }

    fn forget_old_gaps(&mut self) {
        let surplus = self.gaps.len().saturating_sub(MAX_GAPS);
        self.gaps.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(position: &Position) -> Vec<Gap> {
        position.gaps().collect()
    }

    #[test]
    fn each_sequence_is_new_once_in_any_order() {
        let mut position = Position::default();
        for sequence in [3, 1, 7, 2, 0, 6, 4, 5] {
            assert!(position.insert(sequence), "{sequence}");
            assert!(!position.insert(sequence), "{sequence}");
        }
        assert_eq!(position, Position::before(8));
    }

    #[test]
    fn a_gap_is_split_by_an_event_in_it() {
        let mut position = Position::before(1);
        position.insert(9);
        position.insert(5);
        assert_eq!(gaps(&position), [(1, 4), (6, 8)]);
    }

    #[test]
    fn only_the_latest_gaps_are_remembered() {
        let mut position = Position::default();
        for sequence in (10..).step_by(10).take(MAX_GAPS + 5) {
            position.insert(sequence);
        }
        assert_eq!(position.gaps().count(), MAX_GAPS);
        assert!(!position.insert(15));
        assert_eq!(gaps(&position.with_gaps(1)), [(10_281, 10_289)]);
    }

    #[test]
    fn the_last_sequences_leave_gaps_between_them() {
        let position = Position::of_last(&[9, 8, 5]);
        assert_eq!((position.next(), gaps(&position)), (10, vec![(6, 7)]));
        assert_eq!(Position::of_last(&[]), Position::default());
    }

    #[test]
    fn added_gaps_are_merged_and_end_before_what_is_to_come() {
        let mut position = Position::before(20);
        position.add_gaps([(12, 30), (3, 5), (5, 8), (9, 4)]);
        assert_eq!(gaps(&position), [(3, 8), (12, 19)]);
    }

    #[test]
    fn a_position_survives_json_and_a_false_one_does_no_harm() {
        let mut position = Position::before(4);
        position.insert(u64::MAX);
        let json = serde_json::to_string(&position).unwrap();
        assert_eq!(serde_json::from_str::<Position>(&json).unwrap(), position);
        let forged = r#"{"n":0,"g":[[5,1],[0,18446744073709551615]]}"#;
        assert_eq!(
            serde_json::from_str::<Position>(forged).unwrap(),
            Position::default()
        );
    }
}
