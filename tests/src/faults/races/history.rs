//! Calls about one run, their answers, and the effect that the contract gives each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A call, as numbers that determine its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Call {
    /// Starts the run; `start` differs from call to call. A finished record has an outcome.
    Start {
        start: u32,
        outcome: Option<u32>,
    },
    /// Starts the run under an id that must be free.
    Create {
        start: u32,
    },
    Finish {
        outcome: u32,
    },
    Append(Event),
    /// `append_logs`.
    Batch(Vec<Event>),
    Read,
    ReadEvents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) sequence: u64,
    pub(super) payload: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Ok,
    RunFinished,
    RunExists,
    NotFound,
    /// The sequence number of the refused event.
    Conflict(u64),
    Run(Run),
    Events(BTreeMap<u64, u32>),
    /// The future was dropped, or the call failed transiently: it may take effect at any later
    /// time, or never.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) start: u32,
    pub(super) outcome: Option<u32>,
}

/// One call of a round, with the nanoseconds at which it began and was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) task: String,
    pub(super) call: Call,
    pub(super) begun: u64,
    pub(super) answered: u64,
    pub(super) answer: Answer,
}

/// The stored state of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) run: Option<Run>,
    events: BTreeMap<u64, u32>,
}

impl State {
    /// Applies a call, and returns its answer.
    pub(super) fn apply(&mut self, call: &Call) -> Answer {
        match call {
            Call::Start { start, outcome } => match &mut self.run {
                None => {
                    self.run = Some(Run {
                        start: *start,
                        outcome: *outcome,
                    });
                    Answer::Ok
                }
                Some(run) if run.outcome.is_none() => {
                    run.start = *start;
                    Answer::Ok
                }
                Some(run)
                    if run.start == *start && (outcome.is_none() || *outcome == run.outcome) =>
                {
                    Answer::Ok
                }
                Some(_) => Answer::RunFinished,
            },
            Call::Create { start } => match self.run {
                None => {
                    self.run = Some(Run {
                        start: *start,
                        outcome: None,
                    });
                    Answer::Ok
                }
                Some(run) if run.start == *start => Answer::Ok,
                Some(_) => Answer::RunExists,
            },
            Call::Finish { outcome } => match &mut self.run {
                None => Answer::NotFound,
                Some(run) => {
                    if *run.outcome.get_or_insert(*outcome) == *outcome {
                        Answer::Ok
                    } else {
                        Answer::RunFinished
                    }
                }
            },
            Call::Append(Event { sequence, payload }) => {
                if self.run.is_none() {
                    return Answer::NotFound;
                }
                if self.events.entry(*sequence).or_insert(*payload) == payload {
                    Answer::Ok
                } else {
                    Answer::Conflict(*sequence)
                }
            }
            // Each event of a batch is a step of its own.
            Call::Batch(_) => Answer::Unknown,
            Call::Read => self.run.map_or(Answer::NotFound, Answer::Run),
            Call::ReadEvents => Answer::Events(self.events.clone()),
        }
    }
}
