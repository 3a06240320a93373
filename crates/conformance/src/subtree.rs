//! The descendants of a run.

use runtrail_audit::{RunQuery, RunStatus, RunSummary, SkillRun, SubtreeTotals, Usage};

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

/// A run that reports this many tokens of each kind.
fn reporting(run: SkillRun, tokens: u64) -> SkillRun {
    with(run, |run| {
        run.total_input_tokens = tokens;
        run.total_output_tokens = 10 * tokens;
        run.total_thinking_tokens = 100 * tokens;
    })
}

/// Totals of this many runs, whose numbers of input tokens have this sum.
fn totals(run_id: &str, runs: u64, tokens: u64) -> SubtreeTotals {
    with(SubtreeTotals::default(), |totals| {
        totals.run_id = run_id.into();
        totals.runs = runs;
        totals.total_input_tokens = tokens;
        totals.total_output_tokens = 10 * tokens;
        totals.total_thinking_tokens = 100 * tokens;
    })
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

    async fn totals_add_up_a_run_and_all_its_descendants(cx) {
        for run in [
            reporting(running("top"), 1),
            reporting(child("middle", "top"), 2).status(RunStatus::DRY_RUN),
            reporting(child("below", "middle"), 4),
            reporting(child("also-below", "middle"), 8),
            reporting(running("alone"), 16),
        ] {
            cx.store.start_run(&run).await.unwrap();
        }
        let call = Usage::new().model("m").input_tokens(1);
        let events = [
            event("top", 0),
            event("below", 0).usage(call.clone().cost_micros(5)),
            event("below", 1).usage(call.clone()),
            event("also-below", 0).usage(call.cost_micros(7)),
            event("alone", 0).usage(Usage::new().cost_micros(9)),
        ];
        cx.store.append_logs(&events).await.unwrap();
        let used = |of: SubtreeTotals, calls, cost, without| {
            with(of, |totals| {
                totals.calls = calls;
                totals.cost_micros = cost;
                totals.calls_without_cost = without;
            })
        };
        let all = RunQuery::new().include_dry_run();
        let ids = ["top", "unknown", "alone", "middle", "top"].map(str::to_owned);
        assert_eq!(
            cx.store.subtree_totals(&ids, &all, 100).await.unwrap(),
            [
                used(totals("alone", 1, 16), 1, 9, 0),
                used(totals("middle", 3, 14), 3, 12, 1),
                used(totals("top", 4, 15), 3, 12, 1),
            ]
        );
        assert_eq!(cx.store.subtree_totals(&[], &all, 100).await.unwrap(), []);
    }

    async fn totals_leave_out_what_does_not_match_and_what_is_below_it(cx) {
        for run in [
            reporting(running("top"), 1).label("env", "prod"),
            reporting(child("other", "top"), 2).caller("bob").label("env", "prod"),
            reporting(child("below", "other"), 4).label("env", "prod"),
            reporting(child("dry", "top"), 8).status(RunStatus::DRY_RUN),
            reporting(child("same", "top"), 16).label("env", "prod"),
        ] {
            cx.store.start_run(&run).await.unwrap();
        }
        let ids = ["top", "other"].map(str::to_owned);
        for query in [
            RunQuery::new().callers(["caller"]),
            RunQuery::new().callers(["caller", "alice"]).label("env", "prod"),
        ] {
            let found = cx.store.subtree_totals(&ids, &query, 100).await.unwrap();
            assert_eq!(found, [totals("top", 2, 17)], "{query:?}");
        }
        let of_label = RunQuery::new().label("env", "prod");
        let found = cx.store.subtree_totals(&ids, &of_label, 100).await.unwrap();
        assert_eq!(found, [totals("other", 2, 6), totals("top", 4, 23)]);
        let none = RunQuery::new().callers(Vec::<String>::new());
        assert_eq!(cx.store.subtree_totals(&ids, &none, 100).await.unwrap(), []);
    }

    async fn totals_of_a_large_tree_are_cut_and_others_are_not(cx) {
        for run in [running("a"), running("b"), child("b-1", "b"), child("b-2", "b-1")] {
            cx.store.start_run(&reporting(run, 1)).await.unwrap();
        }
        for number in 0..50 {
            let run = child(&format!("a-{number}"), "a");
            cx.store.start_run(&reporting(run, 1)).await.unwrap();
        }
        // A cycle.
        for (run, parent) in [("c", "d"), ("d", "c")] {
            cx.store.start_run(&reporting(child(run, parent), 1)).await.unwrap();
        }
        let ids = ["a", "b", "c"].map(str::to_owned);
        let all = RunQuery::new();
        let cut = |of| with(of, |totals: &mut SubtreeTotals| totals.is_cut = true);
        for (max_runs, expected) in [
            (100, [totals("a", 51, 51), totals("b", 3, 3), totals("c", 2, 2)]),
            (51, [cut(totals("a", 51, 51)), totals("b", 3, 3), totals("c", 2, 2)]),
            (10, [cut(totals("a", 10, 10)), totals("b", 3, 3), totals("c", 2, 2)]),
            (1, [cut(totals("a", 1, 1)), cut(totals("b", 1, 1)), cut(totals("c", 1, 1))]),
        ] {
            let found = cx.store.subtree_totals(&ids, &all, max_runs).await.unwrap();
            assert_eq!(found, expected, "{max_runs}");
        }
        assert_eq!(cx.store.subtree_totals(&ids, &all, 0).await.unwrap(), []);
        assert_eq!(cx.store.subtree_totals(&ids, &all, u64::MAX).await.unwrap().len(), 3);
    }

    async fn the_largest_totals_can_be_added_up(cx) {
        let largest = with(running("top"), |run| run.total_input_tokens = i64::MAX as u64);
        cx.store.start_run(&largest).await.unwrap();
        for number in 0..2 {
            let run = with(largest.clone().parent("top"), |run| run.id = format!("r-{number}"));
            cx.store.start_run(&run).await.unwrap();
        }
        let ids = ["top".to_owned()];
        let found = cx.store.subtree_totals(&ids, &RunQuery::new(), 100).await.unwrap();
        assert_eq!(found[0].runs, 3);
        assert!(found[0].total_input_tokens > u64::MAX / 2, "{found:?}");
    }

    async fn totals_of_invalid_runs_are_refused(cx) {
        let all = RunQuery::new();
        assert_invalid(cx.store.subtree_totals(&["".into()], &all, 1).await, "run_id");
        let many: Vec<_> = (0..1_001).map(|number| format!("r-{number}")).collect();
        assert_invalid(cx.store.subtree_totals(&many, &all, 1).await, "run_ids");
        assert_eq!(cx.store.subtree_totals(&many[1..], &all, 1).await.unwrap(), []);
        let too_long = RunQuery::new().callers(["x".repeat(256)]);
        let ids = ["r".to_owned()];
        assert_invalid(cx.store.subtree_totals(&ids, &too_long, 1).await, "caller_id");
    }
}
