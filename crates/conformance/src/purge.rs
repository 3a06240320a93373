//! Purging.

use runtrail_audit::{ErrorKind, RunFilter, RunStatus, SkillRunLog};
use serde_json::json;

use crate::support::*;

cases! {
    ($) Storage, purge_cases: purge

    async fn the_cutoff_is_exclusive(cx) {
        cx.store.start_run(&finished_at("before", 9)).await.unwrap();
        cx.store.start_run(&finished_at("at", 10)).await.unwrap();
        cx.store.start_run(&finished_at("after", 11)).await.unwrap();
        assert_eq!(cx.store.purge_older_than(at(10)).await.unwrap(), 1);
        assert_kind(cx.store.get_run("before").await, ErrorKind::NotFound);
        assert_eq!(cx.store.get_run("at").await.unwrap(), finished_at("at", 10));
        assert_eq!(
            cx.store.get_run("after").await.unwrap(),
            finished_at("after", 11)
        );
    }

    async fn a_running_run_is_never_purged(cx) {
        cx.store
            .start_run(&with_status("r", -1_000_000, RunStatus::OK))
            .await
            .unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        assert_eq!(cx.store.purge_older_than(at(1_000_000)).await.unwrap(), 0);
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap().len(), 1);
    }

    async fn a_purge_deletes_only_the_events_of_its_runs(cx) {
        for run in [finished_at("old", 1), finished_at("new", 100)] {
            cx.store.start_run(&run).await.unwrap();
            for sequence in 0..3 {
                cx.store
                    .append_log(&event(&run.id, sequence))
                    .await
                    .unwrap();
            }
        }
        assert_eq!(cx.store.purge_older_than(at(50)).await.unwrap(), 1);
        assert!(cx.store.list_logs_by_run("old").await.unwrap().is_empty());
        assert_eq!(cx.store.list_logs_by_run("new").await.unwrap().len(), 3);
    }

    async fn a_purge_with_nothing_due_deletes_nothing(cx) {
        assert_eq!(cx.store.purge_older_than(at(0)).await.unwrap(), 0);
        cx.store.start_run(&finished_at("r", 5)).await.unwrap();
        assert_eq!(cx.store.purge_older_than(at(0)).await.unwrap(), 0);
    }

    async fn dry_runs_are_purged_too(cx) {
        let dry = finished_at("dry", 1).status(RunStatus::DRY_RUN);
        cx.store.start_run(&dry).await.unwrap();
        assert_eq!(cx.store.purge_older_than(at(2)).await.unwrap(), 1);
    }

    async fn a_purge_of_several_batches_deletes_every_due_run(cx) {
        for number in 0..620 {
            // Many finish in the same microsecond, on both sides of a batch's end.
            let run = finished_at(&format!("{number:04}"), number / 400);
            cx.store.start_run(&run).await.unwrap();
        }
        cx.store.start_run(&finished_at("kept", 5)).await.unwrap();
        assert_eq!(cx.store.purge_older_than(at(5)).await.unwrap(), 620);
        let left = cx
            .store
            .count_runs_filtered(&RunFilter::new())
            .await
            .unwrap();
        assert_eq!(left, 1);
        assert_eq!(cx.store.purge_older_than(at(5)).await.unwrap(), 0);
    }

    async fn a_purged_id_can_be_used_again(cx) {
        cx.store.start_run(&finished_at("r", 1)).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        cx.store.purge_older_than(at(2)).await.unwrap();
        cx.store.start_run(&running("r")).await.unwrap();
        let other = SkillRunLog::new("r", 0, "other", json!(1));
        cx.store.append_log(&other).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
    }

    async fn a_purge_deletes_the_runs_that_the_list_of_finished_runs_shows(cx) {
        for second in 0..10 {
            cx.store
                .start_run(&finished_at(&second.to_string(), second))
                .await
                .unwrap();
        }
        let listed = cx
            .store
            .list_finished_runs_before(at(6), None)
            .await
            .unwrap()
            .len();
        assert_eq!(
            cx.store.purge_older_than(at(6)).await.unwrap(),
            listed as u64
        );
    }
}
