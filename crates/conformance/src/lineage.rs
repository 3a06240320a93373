//! Parents and children.

use futures_util::future::join_all;
use runtrail_audit::RunStatus;

use crate::support::*;

cases! {
    ($) Storage, lineage_cases: lineage

    async fn listing_the_children_of_an_empty_id_is_refused(cx) {
        assert_invalid(cx.store.list_children_by_parent("").await, "parent_run_id");
    }

    async fn only_direct_children_are_listed_newest_first(cx) {
        let runs = [
            running("root"),
            with(child("a", "root"), |run| run.started_at = at(1)),
            with(child("b", "root"), |run| run.started_at = at(2)),
            with(child("c", "root"), |run| run.started_at = at(2)),
            child("grandchild", "a"),
            child("stranger", "elsewhere"),
        ];
        for run in &runs {
            cx.store.start_run(run).await.unwrap();
        }
        let children = async |id| cx.store.list_children_by_parent(id).await.unwrap();
        assert_eq!(ids(&children("root").await), ["c", "b", "a"]);
        assert_eq!(ids(&children("a").await), ["grandchild"]);
        assert!(children("grandchild").await.is_empty());
        assert!(children("unknown").await.is_empty());
    }

    async fn children_of_a_parent_that_is_not_stored_are_found(cx) {
        cx.store
            .start_run(&child("stranger", "elsewhere"))
            .await
            .unwrap();
        assert_eq!(
            ids(&cx.store.list_children_by_parent("elsewhere").await.unwrap()),
            ["stranger"]
        );
    }

    async fn children_include_dry_runs(cx) {
        let dry = child("dry", "root").status(RunStatus::DRY_RUN);
        cx.store.start_run(&dry).await.unwrap();
        assert_eq!(
            ids(&cx.store.list_children_by_parent("root").await.unwrap()),
            ["dry"]
        );
    }

    async fn the_chain_leads_from_a_run_to_its_top_level_run(cx) {
        // Neither times nor ids are in the order of the chain.
        let runs = [
            with(running("m"), |run| run.started_at = at(5)),
            with(child("z", "m"), |run| run.started_at = at(9)),
            with(child("a", "z"), |run| run.started_at = at(1)),
            with(child("k", "a"), |run| run.started_at = at(7)),
            child("sibling", "m"),
        ];
        for run in &runs {
            cx.store.start_run(run).await.unwrap();
        }
        let chain = cx.store.walk_parent_chain("k").await.unwrap();
        assert_eq!(ids(&chain), ["k", "a", "z", "m"]);
        assert_eq!(chain[1], runs[2]);
        assert_eq!(ids(&cx.store.walk_parent_chain("m").await.unwrap()), ["m"]);
    }

    async fn the_chain_stops_at_a_parent_that_is_not_stored(cx) {
        cx.store.start_run(&child("a", "gone")).await.unwrap();
        cx.store.start_run(&child("b", "a")).await.unwrap();
        assert_eq!(
            ids(&cx.store.walk_parent_chain("b").await.unwrap()),
            ["b", "a"]
        );
    }

    async fn the_chain_of_an_unknown_run_is_empty(cx) {
        cx.store.start_run(&child("a", "unknown")).await.unwrap();
        assert!(
            cx.store
                .walk_parent_chain("unknown")
                .await
                .unwrap()
                .is_empty()
        );
    }

    async fn the_chain_ends_at_a_run_that_is_its_own_parent(cx) {
        cx.store.start_run(&child("a", "a")).await.unwrap();
        assert_eq!(ids(&cx.store.walk_parent_chain("a").await.unwrap()), ["a"]);
    }

    async fn the_chain_visits_each_run_of_a_cycle_once(cx) {
        for (id, parent) in [("a", "b"), ("b", "c"), ("c", "a"), ("in", "a")] {
            cx.store.start_run(&child(id, parent)).await.unwrap();
        }
        assert_eq!(
            ids(&cx.store.walk_parent_chain("b").await.unwrap()),
            ["b", "c", "a"]
        );
        assert_eq!(
            ids(&cx.store.walk_parent_chain("in").await.unwrap()),
            ["in", "a", "b", "c"]
        );
    }

    async fn the_chain_includes_dry_runs(cx) {
        cx.store
            .start_run(&with_status("dry", 0, RunStatus::DRY_RUN))
            .await
            .unwrap();
        cx.store.start_run(&child("a", "dry")).await.unwrap();
        assert_eq!(
            ids(&cx.store.walk_parent_chain("a").await.unwrap()),
            ["a", "dry"]
        );
    }

    async fn a_chain_of_ten_thousand_ancestors_is_walked(cx) {
        let mut runs = vec![running("0")];
        runs.extend((1..=10_000).map(|number| {
            child(&number.to_string(), &(number - 1).to_string())
        }));
        for runs in runs.chunks(500) {
            let started = join_all(runs.iter().map(|run| cx.store.start_run(run))).await;
            started.into_iter().for_each(Result::unwrap);
        }
        let chain = cx.store.walk_parent_chain("10000").await.unwrap();
        let numbers: Vec<usize> = chain.iter().map(|run| run.id.parse().unwrap()).collect();
        assert!(numbers.into_iter().eq((0..=10_000).rev()));
    }
}
