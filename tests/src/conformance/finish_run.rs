use chrono::TimeDelta;
use runtrail_audit::{Clock, ErrorKind, RunStats, RunStatus, SkillRun};

use crate::fixture::*;

/// Outcomes that differ from `stats()` in one field each.
fn other_stats() -> Vec<RunStats> {
    vec![
        RunStats {
            status: RunStatus::ERROR,
            ..stats()
        },
        RunStats {
            output: "other".into(),
            ..stats()
        },
        RunStats {
            error: "other".into(),
            ..stats()
        },
        RunStats {
            tool_calls: 1,
            ..stats()
        },
        RunStats {
            runtime_seconds: 1.0,
            ..stats()
        },
        RunStats {
            input_tokens: 1,
            ..stats()
        },
        RunStats {
            output_tokens: 1,
            ..stats()
        },
        RunStats {
            thinking_tokens: 1,
            ..stats()
        },
    ]
}

cases! {
    async fn a_runtime_that_is_not_given_is_the_time_from_start_to_finish(cx) {
        let stats = RunStats { runtime_seconds: 0.0, ..stats() };
        for (id, micros, expected) in [("r", 90_000_001, 90.000_001), ("quick", 7, 0.000_007), ("skewed", -5, 0.0)] {
            let started_at = cx.clock.now() - TimeDelta::microseconds(micros);
            cx.store.start_run(&SkillRun { started_at, ..running(id) }).await.unwrap();
            cx.store.finish_run(id, &stats).await.unwrap();
            assert_eq!(cx.store.get_run(id).await.unwrap().runtime_seconds, expected);
        }
        // A repetition succeeds, however late.
        cx.clock.advance(5);
        cx.store.finish_run("r", &stats).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().runtime_seconds, 90.000_001);
        let measured = RunStats { runtime_seconds: 90.000_001, ..stats.clone() };
        cx.store.finish_run("r", &measured).await.unwrap();
        let other = RunStats { runtime_seconds: 91.0, ..stats };
        assert_kind(cx.store.finish_run("r", &other).await, ErrorKind::RunFinished);
    }

    async fn finishing_sets_the_outcome_and_the_time(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.clock.advance(60);
        cx.store.finish_run("r", &stats()).await.unwrap();
        let expected = SkillRun {
            finished_at: Some(cx.clock.now()),
            status: RunStatus::OK,
            output: "the answer".into(),
            error: "a remark".into(),
            tool_calls: 7,
            runtime_seconds: 2.5,
            total_input_tokens: 11,
            total_output_tokens: 22,
            total_thinking_tokens: 33,
            ..running("r")
        };
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
        assert_kind(cx.store.finish_run("r", &stats()).await, ErrorKind::NotFound);
        assert_kind(cx.store.get_run("r").await, ErrorKind::NotFound);
    }

    async fn running_is_no_outcome(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let stats = RunStats { status: RunStatus::RUNNING, ..stats() };
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
            assert_kind(cx.store.finish_run("r", &stats).await, ErrorKind::RunFinished);
            assert_eq!(cx.store.get_run("r").await.unwrap(), finished);
        }
    }

    async fn a_run_recorded_as_finished_can_be_finished_with_the_same_stats(cx) {
        let run = finished_at("r", 10);
        cx.store.start_run(&run).await.unwrap();
        cx.store.finish_run("r", &run.stats()).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
        assert_kind(cx.store.finish_run("r", &stats()).await, ErrorKind::RunFinished);
    }

    async fn a_dry_run_stays_hidden_when_it_is_finished_as_one(cx) {
        cx.store.start_run(&with_status("r", 0, RunStatus::DRY_RUN)).await.unwrap();
        let stats = RunStats { status: RunStatus::DRY_RUN, ..stats() };
        cx.store.finish_run("r", &stats).await.unwrap();
        assert!(cx.store.list_runs_by_skill("skill", None).await.unwrap().is_empty());
    }

    async fn a_dry_run_shows_when_it_is_finished_as_something_else(cx) {
        cx.store.start_run(&with_status("r", 0, RunStatus::DRY_RUN)).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(ids(&cx.store.list_runs_by_skill("skill", None).await.unwrap()), ["r"]);
    }

    async fn a_run_whose_status_says_ok_can_still_be_finished(cx) {
        cx.store.start_run(&with_status("r", 0, RunStatus::OK)).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().stats(), stats());
    }

    async fn finishing_again_after_a_nul_in_the_output_is_the_same(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let stats = RunStats { output: "a\0b".into(), ..stats() };
        cx.store.finish_run("r", &stats).await.unwrap();
        cx.store.finish_run("r", &stats).await.unwrap();
    }
}
