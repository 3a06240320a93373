use std::collections::HashSet;

use super::{Call, Job};
use crate::record::write::{Request, Write};
use crate::statements::{MOST_AT_ONCE, MOST_BYTES_AT_ONCE};

/// Takes those calls out of the waiting jobs that can be written by the same statement as the first of them.
///
/// They are of one kind, and no two of them write the same row. None overtakes another call about the same run.
pub(super) fn take(waiting: &mut Vec<Job>) -> Vec<Call> {
    let mut is_chosen = choose(waiting).into_iter();
    let chosen = waiting.extract_if(.., |_| is_chosen.next().unwrap_or(false));
    let calls = chosen.filter_map(|job| match job {
        Job::Write(call) => Some(call),
        Job::Forward(..) | Job::Close => None,
    });
    calls.collect()
}

/// Which of the jobs these are: calls, all of them.
fn choose(waiting: &[Job]) -> Vec<bool> {
    let mut first: Option<&Call> = None;
    let mut rows = HashSet::new();
    let mut bytes = 0;
    let mut overtaken = HashSet::new();
    let is_chosen = waiting.iter().map(|job| {
        let Job::Write(call) = job else {
            return false;
        };
        let size = call.write.bytes();
        let fits = match first {
            None => true,
            Some(first) => {
                rows.len() < MOST_AT_ONCE
                    && bytes + size <= MOST_BYTES_AT_ONCE
                    && is_alike(first, call)
                    && !overtaken.contains(call.write.run_id())
            }
        };
        if fits && rows.insert(row(&call.write)) {
            first = first.or(Some(call));
            bytes += size;
            true
        } else {
            overtaken.insert(call.write.run_id());
            false
        }
    });
    is_chosen.collect()
}

fn is_alike(left: &Call, right: &Call) -> bool {
    left.write.is_alike(&right.write) && left.place == right.place
}

/// The key of the row that a call writes, among calls of its kind.
fn row(write: &Request) -> (&str, Option<i64>) {
    match &**write {
        Write::Append(row) => (&row.run_id, Some(row.sequence)),
        Write::Start(_) | Write::Finish(_) => (write.run_id(), None),
    }
}
