//! Counting runs.

use runtrail_audit::{Page, RunFilter, RunStatus};

use crate::support::*;

cases! {
    ($) Storage, counts_cases: counts

    async fn the_count_for_a_skill_is_the_length_of_its_list(cx) {
        let runs = [
            running("a"),
            finished_at("b", 1),
            with_status("c", 2, RunStatus::DRY_RUN),
            with_status("d", 3, RunStatus::DRY_RUN),
            with_status("e", 4, RunStatus::ERROR),
            with(running("f"), |run| run.skill_id = "other".into()),
        ];
        for run in &runs {
            cx.store.start_run(run).await.unwrap();
        }
        for (skill, dry, expected) in [
            ("skill", false, 3),
            ("skill", true, 5),
            ("other", true, 1),
            ("none", true, 0),
        ] {
            let count = cx.store.count_runs_by_skill(skill, dry).await.unwrap();
            let list = cx
                .store
                .list_runs_by_skill_paginated(skill, Page::ALL, dry)
                .await
                .unwrap();
            assert_eq!(count, expected, "{skill} {dry}");
            assert_eq!(list.len() as u64, expected, "{skill} {dry}");
        }
    }

    async fn the_counts_of_an_empty_history_are_zero(cx) {
        assert_eq!(
            cx.store.count_runs_by_skill("skill", true).await.unwrap(),
            0
        );
        assert_eq!(
            cx.store
                .count_runs_filtered(&RunFilter::new())
                .await
                .unwrap(),
            0
        );
    }
}
