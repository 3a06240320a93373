//! The runs of a tree in the order in which they are shown.

use std::collections::{HashMap, HashSet};

use runtrail_audit::{RunSummary, SkillRun};

use crate::error::Result;
use crate::visitor::Visitor;

/// A run and how deep below the first one it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Branch {
    pub(super) run: RunSummary,
    pub(super) depth: usize,
}

/// A run and its descendants.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tree {
    /// Each run before its children, and these by their start.
    pub(super) branches: Vec<Branch>,
    /// The number of further runs, which aren't shown.
    pub(super) omitted: u64,
}

impl Tree {
    /// The most runs of a tree that are shown.
    const MAX_RUNS: usize = 5_000;

    /// Reads the part of a tree that the visitor may see.
    pub(super) async fn read(visitor: &Visitor, top: &SkillRun) -> Result<Self> {
        Ok(Self::of(&top.id, visitor.subtree(top).await?))
    }

    /// Arranges runs below the one with this id. Runs that aren't reached from it are left out.
    fn of(root: &str, mut runs: Vec<RunSummary>) -> Self {
        // The last one is taken first.
        runs.sort_by(|left, right| {
            let key = |run: &RunSummary| run.started_at;
            key(right)
                .cmp(&key(left))
                .then_with(|| right.id.cmp(&left.id))
        });
        let mut children: HashMap<String, Vec<RunSummary>> = HashMap::new();
        let mut stack = Vec::new();
        for run in runs {
            match (&run.parent_run_id, run.id == root) {
                (_, true) => stack.push((run, 0)),
                (Some(parent), _) => children.entry(parent.clone()).or_default().push(run),
                (None, _) => {}
            }
        }
        let mut branches = Vec::new();
        let mut omitted = 0;
        let mut found = HashSet::new();
        while let Some((run, depth)) = stack.pop() {
            if !found.insert(run.id.clone()) {
                continue;
            }
            let below = children.remove(&run.id).unwrap_or_default();
            stack.extend(below.into_iter().map(|child| (child, depth + 1)));
            match branches.len() < Self::MAX_RUNS {
                true => branches.push(Branch { run, depth }),
                false => omitted += 1,
            }
        }
        Self { branches, omitted }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    fn run(id: &str, parent: Option<&str>, second: i64) -> RunSummary {
        let started = DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
        let mut run = RunSummary::new(id, "skill", started);
        run.parent_run_id = parent.map(str::to_owned);
        run
    }

    fn arranged(root: &str, runs: Vec<RunSummary>) -> Vec<(String, usize)> {
        let tree = Tree::of(root, runs);
        let branches = tree.branches.into_iter();
        branches
            .map(|branch| (branch.run.id, branch.depth))
            .collect()
    }

    #[test]
    fn parents_come_before_children_and_siblings_by_their_start() {
        let runs = vec![
            run("late", Some("root"), 9),
            run("below", Some("early"), 5),
            run("early", Some("root"), 2),
            run("also-late", Some("root"), 9),
            run("root", Some("elsewhere"), 1),
        ];
        let expected = [
            ("root", 0),
            ("early", 1),
            ("below", 2),
            ("also-late", 1),
            ("late", 1),
        ];
        let expected = expected.map(|(id, depth)| (id.to_owned(), depth));
        assert_eq!(arranged("root", runs), expected);
    }

    #[test]
    fn each_run_of_a_cycle_is_shown_once() {
        let runs = vec![
            run("a", Some("b"), 1),
            run("b", Some("a"), 2),
            run("c", Some("c"), 3),
        ];
        assert_eq!(
            arranged("a", runs.clone()),
            [("a".to_owned(), 0), ("b".to_owned(), 1)]
        );
        assert_eq!(arranged("c", runs), [("c".to_owned(), 0)]);
    }

    #[test]
    fn a_large_tree_says_how_much_is_left_out() {
        let mut runs = vec![run("root", None, 0)];
        runs.extend((0..9_999).map(|at| run(&format!("run-{at}"), Some("root"), at)));
        let tree = Tree::of("root", runs);
        assert_eq!((tree.branches.len(), tree.omitted), (Tree::MAX_RUNS, 5_000));
        let mut chain = vec![run("run-0", None, 0)];
        chain.extend(
            (1..20_000).map(|at| run(&format!("run-{at}"), Some(&format!("run-{}", at - 1)), at)),
        );
        assert_eq!(
            Tree::of("run-0", chain)
                .branches
                .last()
                .map(|last| last.depth),
            Some(4_999)
        );
    }
}
