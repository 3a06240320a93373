//! What streams follow: the events of a run, the runs of a tree, and the runs that match a query.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtrail_audit::{Error, RunQuery, RunSummary};

use super::backlog::{Backlog, Followers};
use super::position::{Gap, Position};
use super::sequencer::Arrival;

/// The events of a run, for all streams that follow it.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) run_id: String,
    state: Mutex<TailState>,
}

#[derive(Debug, Default)]
pub(super) struct TailState {
    pub(super) events: Backlog<Arrival>,
    /// What has been read. `None` until a stream has read what was stored before.
    received: Option<Position>,
    /// Whether there may be new events.
    has_news: bool,
    /// Whether a gap may have been filled.
    has_late_news: bool,
    /// Whether the run may have finished.
    may_have_finished: bool,
}

impl Tail {
    pub(super) fn new(run_id: &str) -> Self {
        let state = TailState {
            may_have_finished: true,
            ..TailState::default()
        };
        Self {
            run_id: run_id.to_owned(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, TailState> {
        lock(&self.state)
    }
}

impl TailState {
    /// An event with this sequence was written.
    pub(super) fn event_written(&mut self, sequence: u64) {
        self.has_news = true;
        self.has_late_news |= self
            .received
            .as_ref()
            .is_some_and(|it| sequence < it.next());
    }

    pub(super) fn run_written(&mut self) {
        self.may_have_finished = true;
    }

    /// Anything may have been written.
    pub(super) fn poll(&mut self) {
        self.has_news = true;
        self.may_have_finished = true;
    }

    /// The last read has failed, or wasn't complete.
    pub(super) fn read_again(&mut self) {
        self.poll();
        self.has_late_news = true;
    }

    pub(super) fn take_may_have_finished(&mut self) -> bool {
        self.events.followers.outcome().is_none() && std::mem::take(&mut self.may_have_finished)
    }

    /// A stream has read everything up to this position. From now on, this source reads what is
    /// stored after it or in its gaps.
    pub(super) fn add_reader(&mut self, position: &Position) {
        self.has_news = true;
        // An event may have been stored in a gap since the stream has read it.
        self.has_late_news = true;
        match &mut self.received {
            Some(received) => received.add_gaps(position.gaps()),
            None => self.received = Some(position.clone()),
        }
    }

    /// Returns the sequences that may have been stored since the last call, if any.
    pub(super) fn take_unread(&mut self, is_poll: bool) -> Vec<Gap> {
        let has_news = std::mem::take(&mut self.has_news);
        let Some(received) = self.received.as_ref().filter(|_| has_news) else {
            return Vec::new();
        };
        let are_gaps_unread = std::mem::take(&mut self.has_late_news) || is_poll;
        let gaps = received.gaps().filter(|_| are_gaps_unread);
        gaps.chain([(received.next(), u64::MAX)]).collect()
    }

    pub(super) fn add(&mut self, event: Arrival) {
        let is_new = |received: &mut Position| received.insert(event.0);
        if self.received.as_mut().is_some_and(is_new) {
            self.events.push(event);
        }
    }
}

/// A run and its descendants, for all streams that follow them.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root_id: String,
    state: Mutex<TreeState>,
}

#[derive(Debug, Default)]
pub(super) struct TreeState {
    pub(super) followers: Followers,
    /// The runs as they were last read; empty if the root isn't stored.
    runs: Option<Arc<Vec<RunSummary>>>,
    ids: HashSet<String>,
}

impl Tree {
    pub(super) fn new(root_id: &str) -> Self {
        Self {
            root_id: root_id.to_owned(),
            state: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, TreeState> {
        lock(&self.state)
    }
}

impl TreeState {
    /// Whether the runs must be read again, given which runs were written, and their parents.
    pub(super) fn is_affected(
        &self,
        written_runs: &HashSet<String>,
        written_parents: &HashSet<String>,
    ) -> bool {
        let is_written = |id| written_runs.contains(id) || written_parents.contains(id);
        self.runs.is_none() || self.ids.iter().any(is_written)
    }

    pub(super) fn runs(&self) -> Option<Arc<Vec<RunSummary>>> {
        self.runs.clone()
    }

    pub(super) fn set(&mut self, runs: Vec<RunSummary>) {
        self.ids = runs.iter().map(|run| run.id.clone()).collect();
        let runs = Arc::new(runs);
        if self.runs.as_ref() != Some(&runs) {
            self.runs = Some(runs);
            self.followers.wake();
        }
    }
}

/// The runs that match a query, for all streams that follow them.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) query: RunQuery,
    state: Mutex<FeedState>,
}

#[derive(Debug, Default)]
pub(super) struct FeedState {
    pub(super) runs: Backlog<Arc<RunSummary>>,
    /// Whether what is written from now on will arrive.
    pub(super) is_ready: bool,
}

impl Feed {
    pub(super) fn new(query: &RunQuery) -> Self {
        Self {
            query: query.clone(),
            state: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, FeedState> {
        lock(&self.state)
    }
}

impl FeedState {
    pub(super) fn fail(&mut self, err: Error) {
        self.runs.followers.finish(Err(err));
    }

    /// Adds runs that have changed; what changes from now on will be added as well.
    pub(super) fn add(&mut self, runs: Vec<RunSummary>) {
        if self.is_ready && runs.is_empty() {
            return;
        }
        self.is_ready = true;
        runs.into_iter()
            .for_each(|run| self.runs.push(Arc::new(run)));
        self.runs.followers.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
