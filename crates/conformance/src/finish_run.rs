//! Finishing a run.

use chrono::TimeDelta;
use runtrail_audit::{Clock, ErrorKind, RunStats, RunStatus};

use crate::support::*;

/// Outcomes that differ from `stats()` in one field each.
fn other_stats() -> Vec<RunStats> {
    vec![
        with(stats(), |stats| stats.status = RunStatus::ERROR),
        stats().output("other"),
        stats().error("other"),
        stats().tool_calls(1),
        stats().runtime_seconds(1.0),
        stats().input_tokens(1),
        stats().output_tokens(1),
        stats().thinking_tokens(1),
    ]
}

cases! {
    ($) Storage, finish_run_cases: finish_run

    async fn a_given_finish_time_is_stored(cx) {
        cx.store.start_run(&running_at("r", 10)).await.unwrap();
        let outcome = RunStats::new(RunStatus::OK).finished_at(at(15));
        cx.store.finish_run("r", &outcome).await.unwrap();
        let run = cx.store.get_run("r").await.unwrap();
        assert_eq!((run.finished_at, run.runtime_seconds), (Some(at(15)), 5.0));
        // The same finish at another time.
        cx.store.finish_run("r", &outcome.finished_at(at(20))).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().finished_at, Some(at(15)));
    }

    async fn a_missing_runtime_is_computed_from_start_and_finish(cx) {
        let stats = stats().runtime_seconds(0.0);
        for (id, micros, expected) in [
            ("r", 90_000_001, 90.000_001),
            ("quick", 7, 0.000_007),
            ("skewed", -5, 0.0),
        ] {
            let started_at = cx.clock.now() - TimeDelta::microseconds(micros);
            cx.store
                .start_run(&with(running(id), |run| run.started_at = started_at))
                .await
                .unwrap();
            cx.store.finish_run(id, &stats).await.unwrap();
            assert_eq!(
                cx.store.get_run(id).await.unwrap().runtime_seconds,
                expected
            );
        }
        // A repetition succeeds at any later time.
        cx.clock.advance(5);
        cx.store.finish_run("r", &stats).await.unwrap();
        assert_eq!(
            cx.store.get_run("r").await.unwrap().runtime_seconds,
            90.000_001
        );
        let measured = stats.clone().runtime_seconds(90.000_001);
        cx.store.finish_run("r", &measured).await.unwrap();
        let other = stats.runtime_seconds(91.0);
        assert_kind(
            cx.store.finish_run("r", &other).await,
            ErrorKind::RunFinished,
        );
    }

    async fn finishing_sets_the_outcome_and_the_time(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.clock.advance(60);
        cx.store.finish_run("r", &stats()).await.unwrap();
        let expected = with(running("r"), |run| {
            run.finished_at = Some(cx.clock.now());
            run.status = RunStatus::OK;
            run.output = "the answer".into();
            run.error = "a remark".into();
            run.tool_calls = 7;
            run.runtime_seconds = 2.5;
            run.total_input_tokens = 11;
            run.total_output_tokens = 22;
            run.total_thinking_tokens = 33;
        });
        assert_eq!(cx.store.get_run("r").await.unwrap(), expected);
        assert_eq!(expected.stats(), stats());
    }

    async fn finishing_leaves_other_runs_alone(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.start_run(&running("s")).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(cx.store.get_run("s").await.unwrap(), running("s"));
    }

    async fn an_unknown_run_cannot_be_finished(cx) {
        assert_kind(
            cx.store.finish_run("r", &stats()).await,
            ErrorKind::NotFound,
        );
        assert_kind(cx.store.get_run("r").await, ErrorKind::NotFound);
    }

    async fn running_is_refused_as_an_outcome(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let stats = with(stats(), |stats| stats.status = RunStatus::RUNNING);
        assert_invalid(cx.store.finish_run("r", &stats).await, "status");
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
    }

    async fn finishing_twice_with_the_same_stats_keeps_the_first_time(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        let finished = cx.store.get_run("r").await.unwrap();
        cx.clock.advance(60);
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), finished);
    }

    async fn finishing_twice_with_other_stats_is_refused(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        let finished = cx.store.get_run("r").await.unwrap();
        cx.clock.advance(60);
        for stats in other_stats() {
            assert_kind(
                cx.store.finish_run("r", &stats).await,
                ErrorKind::RunFinished,
            );
            assert_eq!(cx.store.get_run("r").await.unwrap(), finished);
        }
    }

    async fn a_run_recorded_as_finished_can_be_finished_with_the_same_stats(cx) {
        let run = finished_at("r", 10);
        cx.store.start_run(&run).await.unwrap();
        cx.store.finish_run("r", &run.stats()).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
        assert_kind(
            cx.store.finish_run("r", &stats()).await,
            ErrorKind::RunFinished,
        );
    }

    async fn a_dry_run_finished_as_a_dry_run_stays_hidden(cx) {
        cx.store
            .start_run(&with_status("r", 0, RunStatus::DRY_RUN))
            .await
            .unwrap();
        let stats = with(stats(), |stats| stats.status = RunStatus::DRY_RUN);
        cx.store.finish_run("r", &stats).await.unwrap();
        assert!(
            cx.store
                .list_runs_by_skill("skill", None)
                .await
                .unwrap()
                .is_empty()
        );
    }

    async fn a_dry_run_finished_with_another_status_is_listed(cx) {
        cx.store
            .start_run(&with_status("r", 0, RunStatus::DRY_RUN))
            .await
            .unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(
            ids(&cx.store.list_runs_by_skill("skill", None).await.unwrap()),
            ["r"]
        );
    }

    async fn a_run_whose_status_says_ok_can_still_be_finished(cx) {
        cx.store
            .start_run(&with_status("r", 0, RunStatus::OK))
            .await
            .unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().stats(), stats());
    }

    async fn finishing_again_with_a_nul_in_the_output_is_ok(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let stats = stats().output("a\0b");
        cx.store.finish_run("r", &stats).await.unwrap();
        cx.store.finish_run("r", &stats).await.unwrap();
    }
}
