use std::collections::{HashMap, HashSet};

use super::{Call, Job};
use crate::record::write::{Request, Write};
use crate::statements::{MAX_BATCH_BYTES, MAX_BATCH_ROWS};

/// Which calls a statement can write together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// Calls of one kind.
    OneKind,
    /// Calls of several kinds; those about the same run are of one kind.
    OneKindPerRun,
}

/// Removes the first waiting call and those that the same statement can write.
///
/// They write distinct rows. None overtakes another call about the same run.
pub(super) fn take_first(waiting: &mut Vec<Job>, grouping: Grouping) -> Vec<Call> {
    let mut is_selected = select(waiting, grouping).into_iter();
    let selected = waiting.extract_if(.., |_| is_selected.next().unwrap_or(false));
    let calls = selected.filter_map(|job| match job {
        Job::Write(call) => Some(call),
        Job::Forward(..) | Job::Close => None,
    });
    calls.collect()
}

/// Decides for each job whether it is part of the group.
fn select(waiting: &[Job], grouping: Grouping) -> Vec<bool> {
    let mut first: Option<&Call> = None;
    let mut rows = HashSet::new();
    // The first call of the group about each run.
    let mut first_of_run: HashMap<&str, &Call> = HashMap::new();
    let mut bytes = 0;
    let mut overtaken = HashSet::new();
    let is_selected = waiting.iter().map(|job| {
        let Job::Write(call) = job else {
            return false;
        };
        let run_id = call.write.run_id();
        let size = call.write.bytes();
        let fits = match first {
            None => true,
            Some(first) => {
                rows.len() < MAX_BATCH_ROWS
                    && bytes + size <= MAX_BATCH_BYTES
                    && first.target == call.target
                    && !overtaken.contains(run_id)
                    && (grouping == Grouping::OneKindPerRun
                        || first.write.is_same_kind(&call.write))
            }
        };
        let other = first_of_run.get(run_id);
        let fits = fits && other.is_none_or(|other| other.write.is_same_kind(&call.write));
        if fits && rows.insert(row_key(&call.write)) {
            first = first.or(Some(call));
            first_of_run.entry(run_id).or_insert(call);
            bytes += size;
            true
        } else {
            overtaken.insert(run_id);
            false
        }
    });
    is_selected.collect()
}

/// The key of the row that a call writes, among calls of its kind.
fn row_key(write: &Request) -> (&str, Option<i64>) {
    match &**write {
        Write::Append(row) => (&row.run_id, Some(row.sequence)),
        Write::Start(_) | Write::Finish(_) | Write::Reserve(_) | Write::Settle(_) => {
            (write.run_id(), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use chrono::DateTime;
    use runtrail_audit::{RunStats, RunStatus, SkillRun, SkillRunLog};
    use tokio::sync::oneshot;

    use super::*;
    use crate::record::writer::WriteTarget;
    use crate::settings::Settings;

    fn start(id: &str) -> Write {
        let run = SkillRun::new(id, "skill", DateTime::UNIX_EPOCH);
        Write::start(&run, &Settings::default()).unwrap()
    }

    fn append(run_id: &str, sequence: u64) -> Write {
        let event = SkillRunLog::new(run_id, sequence, "type", true.into());
        Write::append(&event, &Settings::default()).unwrap()
    }

    fn finish(run_id: &str) -> Write {
        let stats = RunStats::new(RunStatus::OK);
        Write::finish(run_id, &stats, &Settings::default()).unwrap()
    }

    /// Returns the positions of the calls in each group, in the order in which they are written.
    fn groups(writes: Vec<Write>) -> Vec<Vec<usize>> {
        grouped(writes, Grouping::OneKind)
    }

    fn grouped(writes: Vec<Write>, grouping: Grouping) -> Vec<Vec<usize>> {
        let mut waiting = Vec::new();
        let mut requests = Vec::new();
        for write in writes {
            let (write, _) = Request::new(write);
            requests.push(write.clone());
            let (answer, _) = oneshot::channel();
            waiting.push(Job::Write(Call {
                write,
                target: WriteTarget {
                    tables: Arc::default(),
                    has_prepared_statements: true,
                },
                since: Instant::now(),
                answer,
            }));
        }
        let position = |call: &Call| {
            let mut positions = requests.iter();
            positions
                .position(|request| std::ptr::eq(&**request, &*call.write))
                .unwrap()
        };
        let mut groups = Vec::new();
        while !waiting.is_empty() {
            groups.push(
                take_first(&mut waiting, grouping)
                    .iter()
                    .map(position)
                    .collect(),
            );
        }
        groups
    }

    #[test]
    fn calls_of_one_kind_to_distinct_rows_share_a_statement() {
        assert_eq!(
            groups(vec![start("a"), start("b"), start("c")]),
            [vec![0, 1, 2]]
        );
        assert_eq!(
            groups(vec![append("a", 0), append("a", 1), append("b", 0)]),
            [vec![0, 1, 2]]
        );
        assert_eq!(
            groups(vec![start("a"), finish("b"), start("c")]),
            [vec![0, 2], vec![1]]
        );
    }

    #[test]
    fn calls_of_several_kinds_share_a_statement_if_they_are_about_different_runs() {
        let calls = vec![
            append("a", 0),
            start("b"),
            finish("c"),
            append("b", 0),
            append("c", 0),
            append("a", 1),
        ];
        let groups = grouped(calls, Grouping::OneKindPerRun);
        assert_eq!(groups, [vec![0, 1, 2, 5], vec![3, 4]]);
    }

    #[test]
    fn two_calls_for_the_same_row_do_not_share_a_statement() {
        assert_eq!(
            groups(vec![append("a", 0), append("a", 0)]),
            [vec![0], vec![1]]
        );
        assert_eq!(
            groups(vec![start("a"), start("a"), start("b")]),
            [vec![0, 2], vec![1]]
        );
    }

    #[test]
    fn no_call_overtakes_another_for_its_run() {
        let calls = vec![append("a", 0), finish("b"), append("b", 1), append("c", 0)];
        assert_eq!(groups(calls), [vec![0, 3], vec![1], vec![2]]);
    }

    #[test]
    fn a_group_has_a_maximum_size() {
        let many = (0..MAX_BATCH_ROWS as u64 + 1).map(|sequence| append("a", sequence));
        let sizes: Vec<usize> = groups(many.collect()).iter().map(Vec::len).collect();
        assert_eq!(sizes, [MAX_BATCH_ROWS, 1]);
    }
}
