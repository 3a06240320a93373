//! The order in which the events of a run are delivered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtrail_audit::{Result, SkillRunLog};
use tokio::time::Instant;

use super::position::Position;

/// How long an event waits for those that are missing before it.
pub(super) const HOLD: Duration = Duration::from_millis(500);

/// The number of events that can wait.
const MAX_WAITING: usize = 256;

/// An event with its sequence; a damaged one is an error.
pub(super) type Arrival = Arc<(u64, Result<SkillRunLog>)>;

/// Sorts the events of a run that arrive out of order.
///
/// An event after a gap waits, unless it is older than [`HOLD`]. Some hosts leave gaps on purpose:
/// once an event has waited in vain, later ones don't wait, until a gap is filled.
#[derive(Debug)]
pub(super) struct Sequencer {
    /// What has arrived.
    received: Position,
    /// What has been delivered.
    delivered: Position,
    waiting: BTreeMap<u64, Arrival>,
    waits_until: Option<Instant>,
    is_patient: bool,
}

impl Sequencer {
    pub(super) fn new(start: Position) -> Self {
        Self {
            received: start.clone(),
            delivered: start,
            waiting: BTreeMap::new(),
            waits_until: None,
            is_patient: true,
        }
    }

    pub(super) fn received(&self) -> &Position {
        &self.received
    }

    pub(super) fn delivered(&self) -> &Position {
        &self.delivered
    }

    /// Adds an event, unless it has arrived before.
    pub(super) fn add(&mut self, event: Arrival) {
        if self.received.insert(event.0) {
            self.waiting.insert(event.0, event);
        }
    }

    /// Whether so many events are waiting that the next one no longer waits for earlier ones.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When [`pop`](Self::pop) returns the next event at the latest; `None` if no event waits.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.waits_until
    }

    /// Returns the next event to deliver, if it no longer waits; `time` is the time of the store's
    /// clock. If all events have arrived, none waits.
    pub(super) fn pop(
        &mut self,
        now: Instant,
        time: DateTime<Utc>,
        is_complete: bool,
    ) -> Option<Arrival> {
        let (sequence, event) = self.waiting.first_key_value()?;
        let sequence = *sequence;
        let next = self.delivered.next();
        // Sequences usually begin at 0 or 1.
        let is_first = next == 0 && sequence == 1;
        let has_gap = sequence > next && !is_first;
        if has_gap && self.is_patient && !is_complete && !self.is_full() && !is_old(event, time) {
            if now < *self.waits_until.get_or_insert_with(|| now + HOLD) {
                return None;
            }
            self.is_patient = false;
        }
        if sequence < next {
            self.is_patient = true;
        }
        self.waits_until = None;
        self.delivered.insert(sequence);
        self.waiting.remove(&sequence)
    }
}

/// Whether an event was recorded so long ago that the missing ones are probably no longer to come.
fn is_old(event: &Arrival, time: DateTime<Utc>) -> bool {
    let created_at = event.1.as_ref().ok().and_then(|event| event.created_at);
    created_at.is_none_or(|at| (time - at).to_std().is_ok_and(|age| age > HOLD))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn event(sequence: u64) -> Arrival {
        let event = SkillRunLog::new("run", sequence, "type", true.into()).created_at(TIME);
        Arc::new((sequence, Ok(event)))
    }

    fn sequencer(sequences: &[u64]) -> Sequencer {
        let mut sequencer = Sequencer::new(Position::default());
        for sequence in sequences {
            sequencer.add(event(*sequence));
        }
        sequencer
    }

    fn pop_all(sequencer: &mut Sequencer, now: Instant) -> Vec<u64> {
        let popped = std::iter::from_fn(|| sequencer.pop(now, TIME, false));
        popped.map(|event| event.0).collect()
    }

    #[test]
    fn an_event_waits_for_the_missing_ones_before_it() {
        let now = Instant::now();
        let mut sequencer = sequencer(&[1, 3]);
        assert_eq!(pop_all(&mut sequencer, now), [1]);
        assert_eq!(sequencer.waits_until(), Some(now + HOLD));
        sequencer.add(event(2));
        assert_eq!(pop_all(&mut sequencer, now), [2, 3]);
        assert_eq!(sequencer.waits_until(), None);
    }

    #[test]
    fn after_waiting_in_vain_no_event_waits_until_a_gap_is_filled() {
        let now = Instant::now();
        let mut sequencer = sequencer(&[10]);
        assert_eq!(pop_all(&mut sequencer, now), [0; 0]);
        assert_eq!(pop_all(&mut sequencer, now + HOLD), [10]);
        sequencer.add(event(20));
        assert_eq!(pop_all(&mut sequencer, now + HOLD), [20]);
        sequencer.add(event(15));
        sequencer.add(event(22));
        assert_eq!(pop_all(&mut sequencer, now + HOLD), [15]);
        assert_eq!(pop_all(&mut sequencer, now + 2 * HOLD), [22]);
        sequencer.add(event(15));
        assert_eq!(pop_all(&mut sequencer, now + 2 * HOLD), [0; 0]);
    }

    #[test]
    fn an_old_event_and_the_last_ones_do_not_wait() {
        let now = Instant::now();
        let mut sequencer = sequencer(&[5, 7]);
        let later = TIME + HOLD + Duration::from_micros(1);
        assert!(sequencer.pop(now, later, false).is_some());
        assert!(sequencer.pop(now, TIME, false).is_none());
        assert!(sequencer.pop(now, TIME, true).is_some());
    }
}
