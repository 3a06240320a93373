//! Lists and their order.

use runtrail_audit::{Page, RunStatus, SkillRun, Storage};

use crate::support::*;

/// Starts seven runs, five of them at the same time.
async fn start_seven_runs(store: &(impl Storage + ?Sized)) {
    for (id, second) in [
        ("g", 3),
        ("a", 2),
        ("e", 1),
        ("c", 1),
        ("d", 1),
        ("f", 1),
        ("b", 1),
    ] {
        store.start_run(&running_at(id, second)).await.unwrap();
    }
}

const SEVEN: [&str; 7] = ["g", "a", "f", "e", "d", "c", "b"];

cases! {
    ($) Storage, lists_cases: lists

    async fn runs_of_a_skill_come_newest_first_then_by_id(cx) {
        start_seven_runs(cx.store).await;
        assert_eq!(
            ids(&cx.store.list_runs_by_skill("skill", None).await.unwrap()),
            SEVEN
        );
    }

    async fn only_runs_of_that_skill_are_listed(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let other = with(running("s"), |run| run.skill_id = "skil".into());
        cx.store.start_run(&other).await.unwrap();
        assert_eq!(
            ids(&cx.store.list_runs_by_skill("skill", None).await.unwrap()),
            ["r"]
        );
        assert_eq!(
            ids(&cx.store.list_runs_by_skill("skil", None).await.unwrap()),
            ["s"]
        );
        assert!(
            cx.store
                .list_runs_by_skill("skills", None)
                .await
                .unwrap()
                .is_empty()
        );
    }

    async fn the_empty_string_is_a_skill_id(cx) {
        cx.store
            .start_run(&SkillRun::new("r", "", at(0)))
            .await
            .unwrap();
        cx.store.start_run(&running("s")).await.unwrap();
        assert_eq!(
            ids(&cx.store.list_runs_by_skill("", None).await.unwrap()),
            ["r"]
        );
    }

    async fn a_limit_selects_the_newest_runs_of_a_skill(cx) {
        start_seven_runs(cx.store).await;
        assert_eq!(
            ids(&cx.store.list_runs_by_skill("skill", Some(3)).await.unwrap()),
            SEVEN[..3]
        );
        assert_eq!(
            ids(&cx
                .store
                .list_runs_by_skill("skill", Some(99))
                .await
                .unwrap()),
            SEVEN
        );
    }

    async fn a_limit_of_zero_returns_no_runs(cx) {
        start_seven_runs(cx.store).await;
        assert!(
            cx.store
                .list_runs_by_skill("skill", Some(0))
                .await
                .unwrap()
                .is_empty()
        );
    }

    async fn dry_runs_are_hidden_from_the_runs_of_a_skill(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store
            .start_run(&with_status("dry", 1, RunStatus::DRY_RUN))
            .await
            .unwrap();
        assert_eq!(
            ids(&cx.store.list_runs_by_skill("skill", None).await.unwrap()),
            ["r"]
        );
    }

    async fn dry_runs_of_a_skill_are_listed_when_asked_for(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store
            .start_run(&with_status("dry", 1, RunStatus::DRY_RUN))
            .await
            .unwrap();
        let list = async |include_dry_run| {
            let page = cx
                .store
                .list_runs_by_skill_paginated("skill", Page::ALL, include_dry_run);
            page.await.unwrap()
        };
        assert_eq!(ids(&list(true).await), ["dry", "r"]);
        assert_eq!(ids(&list(false).await), ["r"]);
    }

    async fn pages_never_overlap_or_skip(cx) {
        start_seven_runs(cx.store).await;
        for size in 1..=8 {
            let mut paged = Vec::new();
            for number in 0..8 {
                let page = Page::first(size).skip(number * size);
                paged.extend(
                    cx.store
                        .list_runs_by_skill_paginated("skill", page, false)
                        .await
                        .unwrap(),
                );
            }
            assert_eq!(ids(&paged), SEVEN, "in pages of {size}");
        }
    }

    async fn an_offset_works_without_a_limit(cx) {
        start_seven_runs(cx.store).await;
        let page = Page::ALL.skip(5);
        let rest = cx
            .store
            .list_runs_by_skill_paginated("skill", page, false)
            .await
            .unwrap();
        assert_eq!(ids(&rest), SEVEN[5..]);
    }

    async fn an_offset_past_the_end_returns_no_runs(cx) {
        start_seven_runs(cx.store).await;
        for offset in [7, 1_000, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
            for page in [
                Page::ALL.skip(offset),
                Page::first(3).skip(offset),
                Page::first(u64::MAX).skip(offset),
            ] {
                let rest = cx
                    .store
                    .list_runs_by_skill_paginated("skill", page, false)
                    .await
                    .unwrap();
                assert!(rest.is_empty(), "{page:?}");
            }
        }
    }

    async fn the_largest_limit_returns_all_runs(cx) {
        start_seven_runs(cx.store).await;
        for limit in [i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
            let all = cx
                .store
                .list_runs_by_skill("skill", Some(limit))
                .await
                .unwrap();
            assert_eq!(ids(&all), SEVEN);
            let page = Page::first(limit).skip(2);
            let rest = cx
                .store
                .list_runs_by_skill_paginated("skill", page, false)
                .await
                .unwrap();
            assert_eq!(ids(&rest), SEVEN[2..]);
        }
    }

    async fn runs_for_a_caller_come_newest_first_without_dry_runs(cx) {
        start_seven_runs(cx.store).await;
        cx.store
            .start_run(&with_status("dry", 9, RunStatus::DRY_RUN))
            .await
            .unwrap();
        let other = running_at("other", 9).caller("callers");
        cx.store.start_run(&other).await.unwrap();
        assert_eq!(
            ids(&cx.store.list_runs_by_caller("caller", None).await.unwrap()),
            SEVEN
        );
        assert_eq!(
            ids(&cx
                .store
                .list_runs_by_caller("caller", Some(2))
                .await
                .unwrap()),
            SEVEN[..2]
        );
        assert_eq!(
            ids(&cx.store.list_runs_by_caller("callers", None).await.unwrap()),
            ["other"]
        );
    }

    async fn runs_finished_before_a_time_come_newest_first(cx) {
        for (id, start, finish) in [("a", 0, 100), ("b", 5, 99), ("c", 5, 98), ("d", 9, 101)] {
            let run = with(finished_at(id, finish), |run| run.started_at = at(start));
            cx.store.start_run(&run).await.unwrap();
        }
        let before = async |second, limit| {
            cx.store
                .list_finished_runs_before(at(second), limit)
                .await
                .unwrap()
        };
        assert_eq!(ids(&before(101, None).await), ["c", "b", "a"]);
        assert_eq!(ids(&before(100, None).await), ["c", "b"]);
        assert_eq!(ids(&before(101, Some(2)).await), ["c", "b"]);
        assert!(before(98, None).await.is_empty());
    }

    async fn a_running_run_is_never_listed_as_finished(cx) {
        cx.store
            .start_run(&with_status("r", 0, RunStatus::OK))
            .await
            .unwrap();
        let runs = cx
            .store
            .list_finished_runs_before(at(1_000_000), None)
            .await
            .unwrap();
        assert!(runs.is_empty());
    }

    async fn dry_runs_are_among_the_finished_runs(cx) {
        let dry = finished_at("dry", 1).status(RunStatus::DRY_RUN);
        cx.store.start_run(&dry).await.unwrap();
        let runs = cx
            .store
            .list_finished_runs_before(at(2), None)
            .await
            .unwrap();
        assert_eq!(ids(&runs), ["dry"]);
    }
}
