use std::collections::HashSet;

use super::{Call, Job};
use crate::record::write::{Request, Write};
use crate::statements::{MAX_BATCH_BYTES, MAX_BATCH_ROWS};

/// Removes the first waiting call and those that the same statement can write.
///
/// They are of one kind and write distinct rows. None overtakes another call about the same run.
pub(super) fn take_first(waiting: &mut Vec<Job>) -> Vec<Call> {
    let mut is_selected = select(waiting).into_iter();
    let selected = waiting.extract_if(.., |_| is_selected.next().unwrap_or(false));
    let calls = selected.filter_map(|job| match job {
        Job::Write(call) => Some(call),
        Job::Forward(..) | Job::Close => None,
    });
    calls.collect()
}

/// Decides for each job whether it is part of the group.
fn select(waiting: &[Job]) -> Vec<bool> {
    let mut first: Option<&Call> = None;
    let mut rows = HashSet::new();
    let mut bytes = 0;
    let mut overtaken = HashSet::new();
    let is_selected = waiting.iter().map(|job| {
        let Job::Write(call) = job else {
            return false;
        };
        let size = call.write.bytes();
        let fits = match first {
            None => true,
            Some(first) => {
                rows.len() < MAX_BATCH_ROWS
                    && bytes + size <= MAX_BATCH_BYTES
                    && share_statement(first, call)
                    && !overtaken.contains(call.write.run_id())
            }
        };
        if fits && rows.insert(row_key(&call.write)) {
            first = first.or(Some(call));
            bytes += size;
            true
        } else {
            overtaken.insert(call.write.run_id());
            false
        }
    });
    is_selected.collect()
}

fn share_statement(left: &Call, right: &Call) -> bool {
    left.write.is_same_kind(&right.write) && left.target == right.target
}

/// The key of the row that a call writes, among calls of its kind.
fn row_key(write: &Request) -> (&str, Option<i64>) {
    match &**write {
        Write::Append(row) => (&row.run_id, Some(row.sequence)),
        Write::Start(_) | Write::Finish(_) => (write.run_id(), None),
    }
}
