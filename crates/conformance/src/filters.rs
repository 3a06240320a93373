//! Lists with a filter.

use runtrail_audit::{Page, RunFilter, RunStatus, Storage};

use crate::support::*;

/// Starts the run `plain`, one that differs from it in every filtered field, and a dry run.
async fn start_three_runs(store: &(impl Storage + ?Sized)) {
    store.start_run(&running_at("plain", 10)).await.unwrap();
    let special = with(running_at("special", 20), |run| {
        run.skill_id = "special skill".into();
        run.caller_id = "special caller".into();
        run.channel_id = "special channel".into();
        run.parent_run_id = Some("plain".into());
        run.status = RunStatus::from("special status");
    });
    store.start_run(&special).await.unwrap();
    store
        .start_run(&with_status("dry", 30, RunStatus::DRY_RUN))
        .await
        .unwrap();
}

/// Returns the ids that a filter matches, and checks that their count is the same.
async fn matched(store: &(impl Storage + ?Sized), filter: &RunFilter) -> Vec<String> {
    let runs = store.list_runs_filtered(filter, Page::ALL).await.unwrap();
    assert_eq!(
        store.count_runs_filtered(filter).await.unwrap(),
        runs.len() as u64
    );
    runs.into_iter().map(|run| run.id).collect()
}

cases! {
    ($) Storage, filters_cases: filters

    async fn the_empty_filter_matches_all_but_dry_runs(cx) {
        start_three_runs(cx.store).await;
        assert_eq!(
            matched(cx.store, &RunFilter::new()).await,
            ["special", "plain"]
        );
    }

    async fn dry_runs_match_when_asked_for(cx) {
        start_three_runs(cx.store).await;
        let filter = RunFilter::new().include_dry_run();
        assert_eq!(
            matched(cx.store, &filter).await,
            ["dry", "special", "plain"]
        );
    }

    async fn a_filter_matches_by_status(cx) {
        start_three_runs(cx.store).await;
        let filter = RunFilter::new().status("special status");
        assert_eq!(matched(cx.store, &filter).await, ["special"]);
        let filter = RunFilter::new().status(RunStatus::RUNNING);
        assert_eq!(matched(cx.store, &filter).await, ["plain"]);
        assert!(
            matched(cx.store, &RunFilter::new().status("unheard of"))
                .await
                .is_empty()
        );
    }

    async fn the_status_dry_run_alone_does_not_include_dry_runs(cx) {
        start_three_runs(cx.store).await;
        let filter = RunFilter::new().status(RunStatus::DRY_RUN);
        assert!(matched(cx.store, &filter).await.is_empty());
        assert_eq!(matched(cx.store, &filter.include_dry_run()).await, ["dry"]);
    }

    async fn a_filter_matches_by_skill(cx) {
        start_three_runs(cx.store).await;
        assert_eq!(
            matched(cx.store, &RunFilter::new().skill("special skill")).await,
            ["special"]
        );
        assert_eq!(
            matched(cx.store, &RunFilter::new().skill("skill")).await,
            ["plain"]
        );
        assert!(
            matched(cx.store, &RunFilter::new().skill(""))
                .await
                .is_empty()
        );
    }

    async fn a_filter_matches_by_caller(cx) {
        start_three_runs(cx.store).await;
        assert_eq!(
            matched(cx.store, &RunFilter::new().caller("special caller")).await,
            ["special"]
        );
        assert_eq!(
            matched(cx.store, &RunFilter::new().caller("caller")).await,
            ["plain"]
        );
    }

    async fn a_filter_matches_by_channel(cx) {
        start_three_runs(cx.store).await;
        assert_eq!(
            matched(cx.store, &RunFilter::new().channel("special channel")).await,
            ["special"]
        );
        assert_eq!(
            matched(cx.store, &RunFilter::new().channel("channel")).await,
            ["plain"]
        );
    }

    async fn a_filter_can_match_top_level_runs_only(cx) {
        start_three_runs(cx.store).await;
        assert_eq!(
            matched(cx.store, &RunFilter::new().top_level_only()).await,
            ["plain"]
        );
    }

    async fn since_and_until_are_inclusive(cx) {
        start_three_runs(cx.store).await;
        let micro = chrono::TimeDelta::microseconds(1);
        assert_eq!(
            matched(cx.store, &RunFilter::new().since(at(20))).await,
            ["special"]
        );
        assert!(
            matched(cx.store, &RunFilter::new().since(at(20) + micro))
                .await
                .is_empty()
        );
        assert_eq!(
            matched(cx.store, &RunFilter::new().until(at(10))).await,
            ["plain"]
        );
        assert!(
            matched(cx.store, &RunFilter::new().until(at(10) - micro))
                .await
                .is_empty()
        );
        let between = RunFilter::new().since(at(10)).until(at(20));
        assert_eq!(matched(cx.store, &between).await, ["special", "plain"]);
    }

    async fn all_conditions_of_a_filter_must_hold(cx) {
        start_three_runs(cx.store).await;
        let special = RunFilter::new()
            .status("special status")
            .skill("special skill")
            .caller("special caller")
            .channel("special channel")
            .since(at(20))
            .until(at(20));
        assert_eq!(matched(cx.store, &special).await, ["special"]);
        let contradictions = [
            special.clone().status(RunStatus::RUNNING),
            special.clone().skill("skill"),
            special.clone().caller("caller"),
            special.clone().channel("channel"),
            special.clone().top_level_only(),
            special.clone().since(at(21)),
            special.clone().until(at(19)),
        ];
        for filter in contradictions {
            assert!(matched(cx.store, &filter).await.is_empty(), "{filter:?}");
        }
    }

    async fn a_filtered_list_has_pages(cx) {
        start_three_runs(cx.store).await;
        let filter = RunFilter::new().include_dry_run();
        let page = async |page| cx.store.list_runs_filtered(&filter, page).await.unwrap();
        assert_eq!(ids(&page(Page::first(1)).await), ["dry"]);
        assert_eq!(ids(&page(Page::first(1).skip(1)).await), ["special"]);
        assert_eq!(ids(&page(Page::ALL.skip(1)).await), ["special", "plain"]);
        assert!(page(Page::first(0)).await.is_empty());
        assert!(page(Page::first(u64::MAX).skip(u64::MAX)).await.is_empty());
    }

    async fn a_filtered_list_breaks_ties_by_id(cx) {
        for id in ["b", "c", "a"] {
            cx.store.start_run(&running(id)).await.unwrap();
        }
        assert_eq!(matched(cx.store, &RunFilter::new()).await, ["c", "b", "a"]);
    }

    async fn filter_values_are_not_patterns(cx) {
        let run = with(running("r"), |run| run.skill_id = "100%".into());
        cx.store.start_run(&run).await.unwrap();
        cx.store
            .start_run(&with(running("s"), |run| run.skill_id = "1000".into()))
            .await
            .unwrap();
        for skill in ["%", "100_", "100%%", "' OR 1=1 --", "100\\%"] {
            assert!(
                matched(cx.store, &RunFilter::new().skill(skill))
                    .await
                    .is_empty(),
                "{skill}"
            );
        }
        assert_eq!(
            matched(cx.store, &RunFilter::new().skill("100%")).await,
            ["r"]
        );
    }
}
