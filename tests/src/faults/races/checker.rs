//! Checks whether some order of concurrent calls explains their answers.

use std::collections::HashSet;

use super::history::{Answer, Call, Entry, State};

/// An atomic part of a call: the call itself, or one event of a batch.
struct Step<'a> {
    call: Call,
    expected: Expected<'a>,
    begun: u64,
    answered: u64,
    /// The step of the same call that must happen before this one.
    after: Option<usize>,
}

enum Expected<'a> {
    Answer(&'a Answer),
    /// An event of a batch that was refused because of an earlier event.
    Any,
    /// It may happen at any time after it began, or never.
    Unknown,
}

/// Returns the smallest part of a history that no order explains, or `None` if there is none.
pub(super) fn unexplained(history: &[Entry]) -> Option<Vec<Entry>> {
    if is_explained(history) {
        return None;
    }
    let mut smallest = history.to_vec();
    let mut place = 0;
    while place < smallest.len() {
        let mut smaller = smallest.clone();
        let left_out = smaller.remove(place);
        // A call that has changed something can't be left out.
        let has_no_effect = !matches!(left_out.answer, Answer::Ok | Answer::Unknown)
            && !matches!(left_out.call, Call::Batch(_));
        if has_no_effect && !is_explained(&smaller) {
            smallest = smaller;
        } else {
            place += 1;
        }
    }
    Some(smallest)
}

pub(super) fn is_explained(history: &[Entry]) -> bool {
    let steps = steps(history);
    assert!(steps.len() <= 64, "too many steps: {}", steps.len());
    let needed = steps
        .iter()
        .enumerate()
        .filter(|(_, step)| !matches!(step.expected, Expected::Unknown))
        .fold(0, |needed, (place, _)| needed | 1 << place);
    let mut seen = HashSet::new();
    let mut open = vec![(0_u64, State::default())];
    while let Some((done, state)) = open.pop() {
        if done & needed == needed {
            return true;
        }
        if !seen.insert((done, state.clone())) {
            continue;
        }
        let is_open = |place: usize| done & (1 << place) == 0;
        // The next step must have begun before the first answer of any open step.
        let first_answer = (0..steps.len())
            .filter(|&place| is_open(place))
            .map(|place| steps[place].answered)
            .min()
            .unwrap_or(u64::MAX);
        let mut ways = Vec::new();
        for (place, step) in steps.iter().enumerate() {
            if !is_open(place) || step.begun > first_answer || step.after.is_some_and(is_open) {
                continue;
            }
            let mut next = state.clone();
            let answer = next.apply(&step.call);
            let fits = match step.expected {
                Expected::Answer(expected) => answer == *expected,
                Expected::Any | Expected::Unknown => true,
            };
            let is_unknown = matches!(step.expected, Expected::Unknown);
            if next == state {
                // A step that changes nothing may as well happen now, and an optional one may as
                // well never happen.
                if fits && !is_unknown {
                    ways = vec![(false, done | 1 << place, next)];
                    break;
                }
            } else if fits {
                ways.push((is_unknown, done | 1 << place, next));
            }
        }
        // The last one is tried first: prefer steps that are known to have happened.
        ways.sort_by_key(|(is_unknown, ..)| !is_unknown);
        open.extend(ways.into_iter().map(|(_, done, next)| (done, next)));
    }
    false
}

fn steps(history: &[Entry]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for entry in history {
        let is_unknown = entry.answer == Answer::Unknown;
        let answered = if is_unknown { u64::MAX } else { entry.answered };
        let step = |call, expected, after| Step {
            call,
            expected: if is_unknown {
                Expected::Unknown
            } else {
                expected
            },
            begun: entry.begun,
            answered,
            after,
        };
        let Call::Batch(events) = &entry.call else {
            steps.push(step(
                entry.call.clone(),
                Expected::Answer(&entry.answer),
                None,
            ));
            continue;
        };
        let mut after = None;
        let mut is_refused = false;
        for event in events {
            let refuses = match entry.answer {
                Answer::Conflict(sequence) => sequence == event.sequence,
                Answer::NotFound => true,
                _ => false,
            };
            let expected = match is_refused {
                true => Expected::Any,
                false if refuses => Expected::Answer(&entry.answer),
                false => Expected::Answer(&Answer::Ok),
            };
            // The events of an abandoned call may take effect in any order.
            let previous = after.filter(|_| !is_unknown);
            after = Some(steps.len());
            steps.push(step(Call::Append(*event), expected, previous));
            is_refused |= refuses;
        }
    }
    steps
}

mod tests {
    use super::super::history::{Event, Run};
    use super::*;

    fn entry(call: Call, (begun, answered): (u64, u64), answer: Answer) -> Entry {
        Entry {
            task: String::new(),
            call,
            begun,
            answered,
            answer,
        }
    }

    fn start(start: u32) -> Call {
        Call::Start {
            start,
            outcome: None,
        }
    }

    fn read(start: u32, outcome: Option<u32>) -> Answer {
        Answer::Run(Run { start, outcome })
    }

    #[test]
    fn an_older_start_that_undoes_an_acknowledged_one_is_detected() {
        let mut history = vec![
            entry(start(1), (0, 1), Answer::Ok),
            entry(start(2), (2, 3), Answer::Ok),
            entry(Call::Read, (4, 5), read(2, None)),
        ];
        assert!(is_explained(&history));
        history.push(entry(Call::Read, (6, 7), read(1, None)));
        assert!(!is_explained(&history));
        // The same calls are explained if they are concurrent.
        for entry in &mut history {
            (entry.begun, entry.answered) = (0, 9);
        }
        assert!(is_explained(&history));
    }

    #[test]
    fn a_refused_call_that_has_changed_something_is_detected() {
        let refused = Call::Start {
            start: 2,
            outcome: Some(7),
        };
        let history = [
            entry(start(1), (0, 1), Answer::Ok),
            entry(refused, (2, 5), Answer::RunFinished),
            entry(Call::Finish { outcome: 3 }, (2, 5), Answer::Ok),
            entry(Call::Read, (3, 5), read(1, None)),
            entry(Call::Read, (6, 7), read(2, Some(3))),
        ];
        let smallest = unexplained(&history).unwrap();
        assert_eq!(smallest.len(), 3, "{smallest:#?}");
    }

    #[test]
    fn an_event_that_is_missing_because_of_a_conflict_is_detected() {
        let event = |sequence, payload| Event { sequence, payload };
        let batch = Call::Batch(vec![event(1, 1), event(2, 1)]);
        let history = |stored: &[(u64, u32)]| {
            vec![
                entry(batch.clone(), (0, 9), Answer::Conflict(1)),
                entry(start(1), (1, 2), Answer::Ok),
                entry(Call::Append(event(1, 5)), (3, 4), Answer::Ok),
                entry(
                    Call::ReadEvents,
                    (10, 11),
                    Answer::Events(stored.iter().copied().collect()),
                ),
            ]
        };
        assert!(is_explained(&history(&[(1, 5), (2, 1)])));
        assert!(!is_explained(&history(&[(1, 5)])));
    }

    #[test]
    fn an_abandoned_call_may_take_effect_late_or_never() {
        let history = |outcome| {
            vec![
                entry(start(1), (0, 1), Answer::Ok),
                entry(Call::Finish { outcome: 4 }, (2, 3), Answer::Unknown),
                entry(Call::Read, (4, 5), read(1, None)),
                entry(Call::Read, (6, 7), read(1, outcome)),
            ]
        };
        assert!(is_explained(&history(None)));
        assert!(is_explained(&history(Some(4))));
        assert!(!is_explained(&history(Some(5))));
    }
}
