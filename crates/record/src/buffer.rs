//! The queue between the handles and the task that writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use runtrail_audit::rules::MAX_JSON_DEPTH;
use runtrail_audit::{Result, RunStats, SkillRun, SkillRunLog};
use serde_json::{Value, json};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use crate::{Event, Unwritten};

/// The next sequence number of a run, and the count of its lost events that aren't reported yet.
#[derive(Debug)]
pub(crate) struct Sequence {
    run_id: String,
    next: AtomicU64,
    lost: AtomicU64,
}

/// The start of a run, for callers that can't wait until it is stored.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) run: SkillRun,
    bytes: usize,
}

/// The end of a run.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) stats: RunStats,
    pub(crate) sequence: Arc<Sequence>,
    /// Receives the result if a caller is waiting.
    pub(crate) answer: Option<oneshot::Sender<Result<()>>>,
    pub(crate) bytes: usize,
}

/// An event in the form that is cheapest for the caller. The task that writes makes a record of it.
#[derive(Debug)]
pub(crate) struct BufferedEvent {
    event: Event,
    created_at: Option<DateTime<Utc>>,
    pub(crate) number: u64,
    pub(crate) sequence: Arc<Sequence>,
    bytes: usize,
}

impl BufferedEvent {
    pub(crate) fn to_log(&self) -> SkillRunLog {
        let Event {
            event_type,
            payload,
            duration,
            usage,
            ..
        } = &self.event;
        let run_id = self.sequence.run_id();
        let mut log = SkillRunLog::new(run_id, self.number, &**event_type, payload.clone());
        log.created_at = self.created_at;
        log.duration = *duration;
        log.usage = usage.clone();
        log
    }
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most entries are events, and a box would cost the caller an allocation"
)]
enum Entry {
    Start(Box<Start>),
    Event(BufferedEvent),
    Finish(Box<Finish>),
}

/// A queue of starts, events and ends of runs. Events are bounded. Starts and ends are always
/// accepted, since a run has only a few. If there is no room for their texts (the inputs of a
/// start, the output of an end that no caller waits for), they are queued without them.
#[derive(Debug)]
pub(crate) struct Buffer {
    max_events: usize,
    max_bytes: usize,
    state: Mutex<State>,
    /// What the task that writes has taken over from the state, in one piece, so that callers don't
    /// wait while it is sorted. It precedes the entries of the state. Locked before the state.
    taken_over: Mutex<VecDeque<Entry>>,
    /// Wakes the task that writes.
    filled: Notify,
    /// Wakes the callers that wait until everything is written.
    emptied: Notify,
    /// Wakes the callers that wait, so that one of them starts another task.
    task_ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    /// The number of events that aren't written yet, including those that are being written.
    events: usize,
    bytes: usize,
    /// The starts of runs that aren't written yet.
    starts: usize,
    /// The ends of runs that aren't written yet.
    finishes: usize,
    /// The events lost in all runs.
    lost: u64,
    is_closed: bool,
    is_abandoned: bool,
    has_task: bool,
}

impl Buffer {
    pub(crate) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            // An event that follows lost ones needs room for their report too.
            max_events: max_events.max(2),
            max_bytes,
            state: Mutex::default(),
            taken_over: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            task_ended: Notify::new(),
        }
    }

    /// Numbers an event and queues it. If there is no room for it, it is counted as lost. Returns
    /// whether a task is running.
    pub(crate) fn push_event(
        &self,
        event: Event,
        created_at: DateTime<Utc>,
        sequence: &Arc<Sequence>,
    ) -> bool {
        let size = size(&event);
        let mut state = self.state();
        let has_task = state.has_task;
        let Some(bytes) = size else {
            self.lose(&mut state, sequence);
            return has_task;
        };
        let has_room = |state: &State, events| {
            state.events + events <= self.max_events && self.has_bytes(state, bytes)
        };
        let lost = sequence.lost.load(Ordering::Relaxed);
        if state.is_closed || !has_room(&state, if lost > 0 { 2 } else { 1 }) {
            self.lose(&mut state, sequence);
            return has_task;
        }
        let was_empty = state.entries.is_empty();
        if let Some(report) = sequence.report(Some(created_at)) {
            state.push_event(report);
        }
        state.push_event(BufferedEvent {
            event,
            created_at: Some(created_at),
            number: sequence.take(),
            sequence: Arc::clone(sequence),
            bytes,
        });
        drop(state);
        self.wake(was_empty);
        has_task
    }

    /// Queues the start of a run; must precede the run's events. Queue it again to replace it. If
    /// there is no room for the inputs, they are dropped and count as one lost event.
    #[cfg(feature = "tracing")]
    pub(crate) fn push_start(&self, mut run: SkillRun, sequence: &Sequence) {
        let size = run.inputs.iter().map(|(name, value)| {
            let size = size_of_json(value, MAX_JSON_DEPTH)?;
            Some(name.len() + size)
        });
        let size = size.sum::<Option<usize>>();
        let mut state = self.state();
        let size = size.filter(|bytes| self.has_bytes(&state, *bytes));
        let bytes = size.unwrap_or_else(|| {
            run.inputs.clear();
            self.lose(&mut state, sequence);
            0
        });
        state.starts += 1;
        state.bytes += bytes;
        let was_empty = state.entries.is_empty();
        let start = Start { run, bytes };
        state.entries.push_back(Entry::Start(Box::new(start)));
        drop(state);
        self.wake(was_empty);
    }

    /// Queues the end of a run. If there is no room for the output, and no caller waits for the
    /// end, the output is dropped and counts as one lost event.
    pub(crate) fn push_finish(&self, mut finish: Finish) {
        let mut state = self.state();
        if finish.answer.is_none() {
            finish.bytes = finish.stats.output.len();
            if !self.has_bytes(&state, finish.bytes) {
                finish.stats.output.clear();
                finish.bytes = 0;
                self.lose(&mut state, &finish.sequence);
            }
        }
        state.finishes += 1;
        state.bytes += finish.bytes;
        let was_empty = state.entries.is_empty();
        state.entries.push_back(Entry::Finish(Box::new(finish)));
        drop(state);
        self.wake(was_empty);
    }

    /// Wakes the task that writes. If it waits, the state had no entries: further ones need no
    /// other call.
    fn wake(&self, was_empty: bool) {
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn has_bytes(&self, state: &State, bytes: usize) -> bool {
        bytes == 0 || state.bytes.saturating_add(bytes) <= self.max_bytes
    }

    /// Counts an event as lost.
    fn lose(&self, state: &mut State, sequence: &Sequence) {
        sequence.lost.fetch_add(1, Ordering::Relaxed);
        state.lost += 1;
    }

    /// Counts as lost an event that the store has refused.
    pub(crate) fn refused(&self, sequence: &Sequence) {
        self.lose(&mut self.state(), sequence);
    }

    /// Waits for entries, and takes a batch from the front. Dropping the batch puts back what isn't
    /// written; until then it still counts as unwritten.
    /// Returns `None` once the buffer is empty and [abandoned](Self::abandon).
    pub(crate) async fn take(
        self: &Arc<Self>,
        max_events: usize,
        max_bytes: usize,
    ) -> Option<Taken> {
        loop {
            let filled = self.filled.notified();
            match self.try_take(max_events, max_bytes) {
                (None, Next::MayFollow) => filled.await,
                (taken, _) => return taken,
            }
        }
    }

    fn try_take(self: &Arc<Self>, max_events: usize, max_bytes: usize) -> (Option<Taken>, Next) {
        let mut entries = self.taken_over();
        let mut state = self.state();
        let next = match state.is_abandoned {
            true => Next::Never,
            false => Next::MayFollow,
        };
        if entries.is_empty() {
            std::mem::swap(&mut *entries, &mut state.entries);
        }
        drop(state);
        if entries.is_empty() {
            return (None, next);
        }
        let mut taken = Taken {
            buffer: Arc::clone(self),
            starts: Vec::new(),
            events: Vec::new(),
            finishes: Vec::new(),
        };
        let mut bytes = 0;
        while let Some(entry) = entries.pop_front() {
            match entry {
                Entry::Start(start) => taken.starts.push(*start),
                Entry::Finish(finish) => taken.finishes.push(*finish),
                Entry::Event(event) => {
                    bytes += event.bytes;
                    let is_full = taken.events.len() == max_events || bytes > max_bytes;
                    if is_full && !taken.events.is_empty() {
                        entries.push_front(Entry::Event(event));
                        break;
                    }
                    taken.events.push(event);
                }
            }
        }
        (Some(taken), next)
    }

    /// Stops accepting events.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
    }

    /// Returns a guard for a task to hold, unless another task holds it.
    pub(crate) fn claim_task(self: &Arc<Self>) -> Option<TaskGuard> {
        let mut state = self.state();
        let had_task = std::mem::replace(&mut state.has_task, true);
        drop(state);
        (!had_task).then(|| TaskGuard(Arc::clone(self)))
    }

    /// Returns a future that completes when the task of this moment, or a later one, ends.
    pub(crate) fn task_ended(&self) -> Notified<'_> {
        self.task_ended.notified()
    }

    /// Lets the task end once everything is written. No recorder or handle is left.
    pub(crate) fn abandon(&self) {
        self.state().is_abandoned = true;
        self.filled.notify_one();
    }

    /// Returns once everything is written.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            let unwritten = self.unwritten();
            if unwritten.starts == 0 && unwritten.events == 0 && unwritten.runs == 0 {
                return;
            }
            emptied.await;
        }
    }

    pub(crate) fn unwritten(&self) -> Unwritten {
        let state = self.state();
        Unwritten {
            starts: state.starts as u64,
            events: state.events as u64,
            runs: state.finishes as u64,
            lost: state.lost,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken_over(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        let taken_over = self.taken_over.lock();
        taken_over.unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push_event(&mut self, event: BufferedEvent) {
        self.events += 1;
        self.bytes += event.bytes;
        self.entries.push_back(Entry::Event(event));
    }
}

impl Sequence {
    pub(crate) fn new(run_id: String) -> Arc<Self> {
        Arc::new(Self {
            run_id,
            next: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }

    fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns an event with the number of events lost since the previous report, and resets that
    /// number.
    pub(crate) fn report(
        self: &Arc<Self>,
        created_at: Option<DateTime<Utc>>,
    ) -> Option<BufferedEvent> {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        (lost > 0).then(|| BufferedEvent {
            event: Event::of_type("dropped".into(), json!({ "events": lost })),
            created_at,
            number: self.take(),
            sequence: Arc::clone(self),
            bytes: 0,
        })
    }
}

/// Whether further entries may be recorded.
enum Next {
    MayFollow,
    Never,
}

/// The right to be the task that writes. Dropping it lets another task take over.
pub(crate) struct TaskGuard(Arc<Buffer>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.state().has_task = false;
        self.0.task_ended.notify_waiters();
    }
}

/// Entries that are being written.
pub(crate) struct Taken {
    buffer: Arc<Buffer>,
    pub(crate) starts: Vec<Start>,
    pub(crate) events: Vec<BufferedEvent>,
    pub(crate) finishes: Vec<Finish>,
}

impl Taken {
    /// Removes the starts, each of which is written or refused.
    pub(crate) fn starts_written(&mut self) {
        let starts = std::mem::take(&mut self.starts);
        let mut state = self.buffer.state();
        state.starts -= starts.len();
        state.bytes -= starts.iter().map(|start| start.bytes).sum::<usize>();
        drop(state);
        self.buffer.emptied.notify_waiters();
    }

    /// Removes the events, each of which is written or refused.
    pub(crate) fn events_written(&mut self) {
        let events = std::mem::take(&mut self.events);
        let mut state = self.buffer.state();
        state.events -= events.len();
        state.bytes -= events.iter().map(|event| event.bytes).sum::<usize>();
        drop(state);
        self.buffer.emptied.notify_waiters();
    }

    /// Removes the ends of runs, all of which are answered.
    pub(crate) fn ends_written(&mut self) {
        let finishes = std::mem::take(&mut self.finishes);
        let mut state = self.buffer.state();
        state.finishes -= finishes.len();
        state.bytes -= finishes.iter().map(|finish| finish.bytes).sum::<usize>();
        drop(state);
        self.buffer.emptied.notify_waiters();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let starts = self.starts.drain(..).map(Box::new).map(Entry::Start);
        let finishes = self.finishes.drain(..).map(Box::new).map(Entry::Finish);
        let events = self.events.drain(..).map(Entry::Event);
        let mut entries = self.buffer.taken_over();
        for entry in starts.chain(events).chain(finishes).rev() {
            entries.push_front(entry);
        }
    }
}

/// Estimates how many bytes an event takes in memory. Returns `None` if its payload is nested too
/// deeply to be stored: it could overflow the smaller stack of the task.
fn size(event: &Event) -> Option<usize> {
    /// The event itself, and what the allocator adds.
    const EVENT: usize = 512;

    let usage = event.usage.as_ref();
    let name = |name: Option<&String>| name.map_or(0, String::len);
    let names = event.event_type.len()
        + name(usage.and_then(|usage| usage.provider.as_ref()))
        + name(usage.and_then(|usage| usage.model.as_ref()));
    Some(EVENT + names + size_of_json(&event.payload, MAX_JSON_DEPTH)?)
}

fn size_of_json(value: &Value, depth: usize) -> Option<usize> {
    const NODE: usize = size_of::<Value>();
    const MEMBER: usize = 2 * NODE;

    Some(match value {
        Value::String(text) => NODE + text.len(),
        Value::Array(items) => {
            let depth = depth.checked_sub(1)?;
            let sizes = items.iter().map(|item| size_of_json(item, depth));
            NODE + sizes.sum::<Option<usize>>()?
        }
        Value::Object(members) => {
            let depth = depth.checked_sub(1)?;
            let sizes = members.iter().map(|(name, value)| {
                let size = size_of_json(value, depth)?;
                Some(MEMBER + name.len() + size)
            });
            NODE + sizes.sum::<Option<usize>>()?
        }
        _ => NODE,
    })
}
