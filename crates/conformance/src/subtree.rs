//! The descendants of a run.

use runtrail_audit::{RunStatus, RunSummary, SkillRun};

use crate::support::*;

fn summaries(runs: &[SkillRun]) -> Vec<RunSummary> {
    runs.iter().map(Into::into).collect()
}

fn ids_of(runs: &[RunSummary]) -> Vec<&str> {
    runs.iter().map(|run| run.id.as_str()).collect()
}

fn child_at(id: &str, parent: &str, seconds: i64) -> SkillRun {
    with(child(id, parent), |run| run.started_at = at(seconds))
}

cases! {
    ($) History, subtree_cases: subtree

    async fn a_subtree_has_the_run_and_all_its_descendants_newest_first(cx) {
        let runs = [
            child_at("grandchild", "child-2", 3),
            child_at("child-2", "top", 2).status(RunStatus::DRY_RUN),
            child_at("child-1", "top", 2),
            with(finished_at("top", 9), |run| run.parent_run_id = None),
        ];
        for run in &runs {
            cx.store.start_run(run).await.unwrap();
        }
        cx.store
            .start_run(&child("stranger", "elsewhere"))
            .await
            .unwrap();
        assert_eq!(
            cx.store.list_subtree("top").await.unwrap(),
            summaries(&runs)
        );
        assert_eq!(
            cx.store.list_subtree("child-2").await.unwrap(),
            summaries(&runs[..2])
        );
        assert_eq!(
            cx.store.list_subtree("grandchild").await.unwrap(),
            summaries(&runs[..1])
        );
    }

    async fn summaries_of_children_match_the_listed_children(cx) {
        for (id, parent, second) in [
            ("a", "top", 1),
            ("b", "top", 2),
            ("c", "top", 2),
            ("below", "a", 3),
        ] {
            cx.store
                .start_run(&child_at(id, parent, second))
                .await
                .unwrap();
        }
        let children = cx.store.list_children("top").await.unwrap();
        assert_eq!(ids_of(&children), ["c", "b", "a"]);
        assert_eq!(
            children,
            summaries(&cx.store.list_children_by_parent("top").await.unwrap())
        );
        assert!(cx.store.list_children("below").await.unwrap().is_empty());
        assert_invalid(cx.store.list_children("").await, "run_id");
    }

    async fn an_unknown_run_has_no_subtree(cx) {
        cx.store
            .start_run(&child("orphan", "unknown"))
            .await
            .unwrap();
        assert!(cx.store.list_subtree("unknown").await.unwrap().is_empty());
        assert_invalid(cx.store.list_subtree("").await, "run_id");
    }

    async fn a_cycle_yields_each_run_once(cx) {
        for (run, parent) in [("a", "c"), ("b", "a"), ("c", "b"), ("self", "self")] {
            cx.store.start_run(&child(run, parent)).await.unwrap();
        }
        let mut runs = cx.store.list_subtree("b").await.unwrap();
        runs.sort_by(|left, right| left.id.cmp(&right.id));
        assert_eq!(ids_of(&runs), ["a", "b", "c"]);
        assert_eq!(
            ids_of(&cx.store.list_subtree("self").await.unwrap()),
            ["self"]
        );
    }

    async fn a_subtree_can_be_thousands_of_levels_deep(cx) {
        cx.store.start_run(&running("0")).await.unwrap();
        for number in 1..2_000 {
            let run = child_at(&number.to_string(), &(number - 1).to_string(), number);
            cx.store.start_run(&run).await.unwrap();
        }
        let runs = cx.store.list_subtree("0").await.unwrap();
        assert_eq!(runs.len(), 2_000);
        assert_eq!(runs[0].id, "1999");
    }
}
