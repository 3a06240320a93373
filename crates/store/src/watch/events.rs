//! The events of one run, as they are stored.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use runtrail_audit::{Error, LogFilter, Result, SkillRunLog, WatchStart, rules};
use runtrail_db::{Pool, Row};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug_span;

use super::backlog::News;
use super::hub::Hub;
use super::position::{Gap, Position};
use super::sequencer::{Arrival, Sequencer};
use super::sources::Tail;
use crate::codec;
use crate::settings::Session;
use crate::statements::logs::{self, SequenceRange};
use crate::store::AuditStore;

/// The number of events that one query reads; each may have a payload of the maximum size.
const EVENTS: u64 = 100;

/// The number of sequences before the present in which [`WatchStart::Now`] looks for gaps.
const LAST_SEQUENCES: u64 = 1_000;

/// Reads the events of a run: first the stored ones, then those that arrive, and once the run has
/// finished, the last ones.
#[derive(Debug)]
pub(super) struct RunEvents {
    run_id: String,
    sequencer: Sequencer,
    /// What arrives, and the number of the next arrival. `None` if the run has finished.
    tail: Option<(Arc<Tail>, u64)>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Reads events that are stored in gaps.
    Gaps,
    /// Reads events that are stored after all others.
    Stored,
    Arriving,
    Complete,
}

impl RunEvents {
    /// Reads the events of a finished run.
    pub(super) fn of_finished(run_id: &str, start: Position) -> Self {
        Self {
            run_id: run_id.to_owned(),
            sequencer: Sequencer::new(start),
            tail: None,
            phase: Phase::Gaps,
        }
    }

    /// Reads the events of a running run; wakes the stream when more have arrived.
    pub(super) fn of_running(
        run_id: &str,
        start: Position,
        hub: &Hub,
        stream: &Arc<Notify>,
    ) -> Self {
        let tail = hub.tail(run_id);
        let arrived = {
            let mut state = tail.lock();
            state.events.followers.add(stream);
            state.events.end()
        };
        Self {
            tail: Some((tail, arrived)),
            ..Self::of_finished(run_id, start)
        }
    }

    pub(super) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// What has been delivered.
    pub(super) fn delivered(&self) -> &Position {
        self.sequencer.delivered()
    }

    /// Whether more events may arrive at any time.
    pub(super) fn is_live(&self) -> bool {
        self.tail.is_some()
    }

    /// Returns the next event, if it has arrived and doesn't wait for earlier ones.
    pub(super) fn pop(&mut self, time: DateTime<Utc>) -> Option<Arrival> {
        let is_complete = self.phase == Phase::Complete;
        self.sequencer.pop(Instant::now(), time, is_complete)
    }

    /// Whether all events have been delivered.
    pub(super) fn is_complete(&self) -> bool {
        self.phase == Phase::Complete && self.sequencer.is_empty()
    }

    /// When the next event stops waiting for earlier ones.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.sequencer.waits_until()
    }

    /// Looks for further events; returns whether this has changed anything.
    pub(super) async fn advance(&mut self, store: &AuditStore) -> Result<bool> {
        match (self.phase, &mut self.tail) {
            (Phase::Gaps, _) => {
                let gaps: Vec<_> = self.sequencer.received().gaps().collect();
                if gaps.is_empty() || self.read(store, &gaps).await? {
                    self.phase = Phase::Stored;
                }
                Ok(true)
            }
            (Phase::Stored, _) => {
                let next = self.sequencer.received().next();
                if self.read(store, &[(next, u64::MAX)]).await? {
                    self.phase = match &self.tail {
                        Some((tail, _)) => {
                            tail.lock().add_reader(self.sequencer.received());
                            store.hub().wake();
                            Phase::Arriving
                        }
                        None => Phase::Complete,
                    };
                }
                Ok(true)
            }
            (Phase::Arriving, Some((tail, arrived))) => {
                let news = tail.lock().events.since(arrived);
                match news {
                    News::Items(events) if events.is_empty() => return Ok(false),
                    News::Items(events) => {
                        events
                            .into_iter()
                            .for_each(|event| self.sequencer.add(event));
                    }
                    News::Lost => self.phase = Phase::Gaps,
                    News::End(outcome) => {
                        outcome?;
                        self.tail = None;
                        self.phase = Phase::Gaps;
                    }
                }
                Ok(true)
            }
            (Phase::Arriving | Phase::Complete, _) => Ok(false),
        }
    }

    /// Reads some stored events; returns whether these were the last ones.
    async fn read(&mut self, store: &AuditStore, sequences: &[Gap]) -> Result<bool> {
        let db = store.reading(debug_span!("watch_logs")).await?;
        let ranges: Vec<_> = ranges(&self.run_id, sequences.iter().copied()).collect();
        if ranges.is_empty() {
            return Ok(true);
        }
        let rows = logs::in_ranges(&db, &ranges, EVENTS).await?;
        let are_last = (rows.len() as u64) < EVENTS;
        for row in rows {
            if let Some((_, event)) = arrival(row)? {
                self.sequencer.add(event);
            }
        }
        Ok(are_last)
    }
}

/// Returns the position at which the events of a run start.
pub(super) async fn first_position(
    db: &Session<'_, Pool>,
    run_id: &str,
    filter: &LogFilter,
    is_from_now: bool,
) -> Result<Position> {
    if is_from_now {
        let last = logs::last_sequences(db, run_id, LAST_SEQUENCES).await?;
        return Ok(Position::of_last(&last));
    }
    let after = filter.after.map_or(0, |after| after.saturating_add(1));
    Ok(Position::before(after))
}

/// Checks the arguments of a stream of events.
pub(super) fn check(run_id: &str, filter: &LogFilter) -> Result<()> {
    let LogFilter {
        event_type, after, ..
    } = filter;
    rules::run_id("run_id", run_id)?;
    if let Some(event_type) = event_type {
        rules::identifier("event_type", event_type)?;
    }
    if let Some(after) = after {
        rules::count("after", *after)?;
    }
    Ok(())
}

pub(super) fn matches(filter: &LogFilter, event: &SkillRunLog) -> bool {
    let LogFilter {
        event_type, after, ..
    } = filter;
    event_type.as_ref().is_none_or(|it| *it == event.event_type)
        && after.is_none_or(|after| event.sequence > after)
}

/// Whether a stream starts with what is stored later.
pub(super) fn is_from_now(start: &WatchStart) -> bool {
    matches!(start, WatchStart::Now)
}

/// Returns these sequences as ranges of a query. There are none above the largest one that the
/// database can store.
pub(super) fn ranges(
    run_id: &str,
    sequences: impl Iterator<Item = Gap>,
) -> impl Iterator<Item = SequenceRange<'_>> {
    sequences.filter_map(move |(first, last)| {
        let first = i64::try_from(first).ok()?;
        let last = i64::try_from(last).unwrap_or(i64::MAX);
        Some(SequenceRange(run_id, first, last))
    })
}

/// Reads an event and the id of its run from a row. `None` if another program has stored a key that
/// can't be read.
pub(super) fn arrival(row: Row) -> Result<Option<(String, Arrival)>> {
    let key = (row.get::<String>(0), row.get::<i64>(1));
    match (key, codec::decode_log(row)) {
        ((Ok(run_id), Ok(sequence)), event @ (Ok(_) | Err(Error::Corrupt { .. }))) => {
            Ok(Some((run_id, Arc::new((sequence.unsigned_abs(), event)))))
        }
        (_, event) => codec::skip_damaged(event).map(|_| None),
    }
}
