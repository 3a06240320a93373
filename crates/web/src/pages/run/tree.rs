//! The runs of a tree in the order in which they are shown.

use std::collections::{HashMap, HashSet};

use runtrail_audit::RunSummary;

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
    pub(super) rest: Rest,
}

/// The runs of a tree that aren't shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rest {
    #[default]
    None,
    /// There are so many more.
    Runs(usize),
    /// Whether the visitor may see any of the rest isn't known.
    Unknown,
}

impl Tree {
    /// The most runs of a tree that are shown.
    const MAX_RUNS: usize = 5_000;

    /// The most runs that are checked one by one.
    const MAX_CHECKED: usize = 500;

    /// Reads the part of a tree that the visitor may see. The visitor must be allowed to see the
    /// first run.
    pub(super) async fn read(visitor: &Visitor, root: &str) -> Result<Self> {
        let runs = visitor.history().list_subtree(root).await?;
        let mut tree = Self::of(root, runs);
        if visitor.sees_all_runs() {
            return Ok(tree);
        }
        let is_cut = tree.rest != Rest::None || tree.branches.len() > Self::MAX_CHECKED;
        tree.branches.truncate(Self::MAX_CHECKED);
        let runs = tree.branches.iter().map(|branch| branch.run.clone());
        let visible = visitor.retain_visible(runs.collect()).await?;
        let visible: HashSet<_> = visible.into_iter().map(|run| run.id).collect();
        Ok(Self {
            branches: without_hidden(tree.branches, |run| visible.contains(&run.id)),
            rest: if is_cut { Rest::Unknown } else { Rest::None },
        })
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
        let mut left_out = 0;
        let mut found = HashSet::new();
        while let Some((run, depth)) = stack.pop() {
            if !found.insert(run.id.clone()) {
                continue;
            }
            let below = children.remove(&run.id).unwrap_or_default();
            stack.extend(below.into_iter().map(|child| (child, depth + 1)));
            match branches.len() < Self::MAX_RUNS {
                true => branches.push(Branch { run, depth }),
                false => left_out += 1,
            }
        }
        let rest = match left_out {
            0 => Rest::None,
            left_out => Rest::Runs(left_out),
        };
        Self { branches, rest }
    }
}

/// Leaves out hidden runs and all runs below them, as if the hidden ones weren't stored.
fn without_hidden(branches: Vec<Branch>, is_visible: impl Fn(&RunSummary) -> bool) -> Vec<Branch> {
    let mut hidden_depth = usize::MAX;
    let mut visible = Vec::with_capacity(branches.len());
    for branch in branches {
        if branch.depth > hidden_depth {
            continue;
        }
        match is_visible(&branch.run) {
            true => {
                hidden_depth = usize::MAX;
                visible.push(branch);
            }
            false => hidden_depth = branch.depth,
        }
    }
    visible
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
        assert_eq!(
            (tree.branches.len(), tree.rest),
            (Tree::MAX_RUNS, Rest::Runs(5_000))
        );
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

    #[test]
    fn what_is_below_a_hidden_run_is_hidden_too() {
        let runs = vec![
            run("root", None, 0),
            run("shown", Some("root"), 1),
            run("hidden", Some("root"), 2),
            run("below", Some("hidden"), 3),
            run("last", Some("root"), 4),
        ];
        let branches = without_hidden(Tree::of("root", runs).branches, |run| run.id != "hidden");
        let ids: Vec<_> = branches
            .iter()
            .map(|branch| branch.run.id.as_str())
            .collect();
        assert_eq!(ids, ["root", "shown", "last"]);
    }
}
