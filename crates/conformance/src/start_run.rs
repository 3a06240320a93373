//! Starting a run.

use runtrail_audit::{ErrorKind, RunStatus, SkillRun};
use serde_json::json;

use crate::support::*;

/// Starts that differ from `running("r")` in one field each.
fn other_starts() -> Vec<SkillRun> {
    let start = || running("r");
    vec![
        with(start(), |run| run.skill_id = "other".into()),
        start().caller("other"),
        start().channel("other"),
        start().parent("other"),
        start().inputs(object(json!({"question": "how?"}))),
        with(start(), |run| run.started_at = at(-60)),
    ]
}

/// Outcomes that differ from `finished_at("r", 10)` in one field each.
fn other_outcomes() -> Vec<SkillRun> {
    let run = || finished_at("r", 10);
    vec![
        with(run(), |run| run.finished_at = Some(at(11))),
        run().status(RunStatus::ERROR),
        with(run(), |run| run.output = "other".into()),
        with(run(), |run| run.error = "other".into()),
        with(run(), |run| run.tool_calls = 5),
        with(run(), |run| run.runtime_seconds = 1.5),
        with(run(), |run| run.total_input_tokens = 1),
        with(run(), |run| run.total_output_tokens = 1),
        with(run(), |run| run.total_thinking_tokens = 1),
    ]
}

cases! {
    ($) Storage, start_run_cases: start_run

    async fn a_started_run_is_read_back_as_written(cx) {
        let run = running("r").parent("parent");
        cx.store.start_run(&run).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
    }

    async fn a_run_with_nothing_but_an_id_is_read_back_as_written(cx) {
        let run = SkillRun::new("r", "", at(0));
        cx.store.start_run(&run).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
    }

    async fn a_finished_run_is_recorded_in_one_call(cx) {
        let run = finished_at("r", 10);
        cx.store.start_run(&run).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
    }

    async fn the_same_start_of_a_running_run_is_ok(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.start_run(&running("r")).await.unwrap();
        assert_eq!(
            cx.store.list_runs_by_skill("skill", None).await.unwrap(),
            [running("r")]
        );
    }

    async fn a_different_start_updates_a_running_run(cx) {
        for start in other_starts() {
            cx.store.start_run(&running("r")).await.unwrap();
            cx.store.start_run(&start).await.unwrap();
            assert_eq!(cx.store.get_run("r").await.unwrap(), start);
        }
    }

    async fn a_different_start_can_remove_the_parent(cx) {
        cx.store.start_run(&child("r", "parent")).await.unwrap();
        cx.store.start_run(&running("r")).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().parent_run_id, None);
    }

    async fn a_different_start_changes_only_the_fields_of_the_start(cx) {
        let first = with(finished_at("r", 10), |run| {
            run.finished_at = None;
            run.status = RunStatus::from("thinking");
        });
        cx.store.start_run(&first).await.unwrap();
        let second = finished_at("r", 99).caller("other");
        let second = with(second, |run| {
            run.output = "late".into();
            run.tool_calls = 9;
        });
        cx.store.start_run(&second).await.unwrap();

        let expected = first.caller("other");
        assert_eq!(cx.store.get_run("r").await.unwrap(), expected);
    }

    async fn a_run_without_a_finish_is_running_whatever_its_status(cx) {
        cx.store
            .start_run(&with_status("r", 0, RunStatus::ERROR))
            .await
            .unwrap();
        let start = with_status("r", 5, RunStatus::ERROR);
        cx.store.start_run(&start).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), start);
    }

    async fn the_same_start_of_a_finished_run_is_ok_and_changes_nothing(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        let finished = cx.store.get_run("r").await.unwrap();
        cx.store.start_run(&running("r")).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), finished);
    }

    async fn a_different_start_of_a_finished_run_is_refused_and_changes_nothing(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        let finished = cx.store.get_run("r").await.unwrap();
        for start in other_starts() {
            assert_kind(cx.store.start_run(&start).await, ErrorKind::RunFinished);
            assert_eq!(cx.store.get_run("r").await.unwrap(), finished);
        }
    }

    async fn recording_the_same_finished_run_again_is_ok(cx) {
        cx.store.start_run(&finished_at("r", 10)).await.unwrap();
        cx.store.start_run(&finished_at("r", 10)).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), finished_at("r", 10));
    }

    async fn a_finished_run_with_a_different_outcome_is_refused_and_changes_nothing(cx) {
        cx.store.start_run(&finished_at("r", 10)).await.unwrap();
        for run in other_outcomes() {
            assert_kind(cx.store.start_run(&run).await, ErrorKind::RunFinished);
            assert_eq!(cx.store.get_run("r").await.unwrap(), finished_at("r", 10));
        }
    }

    async fn starts_within_the_same_microsecond_are_the_same(cx) {
        let start = |nanos| {
            with(running("r"), |run| {
                run.started_at = at(0) + chrono::TimeDelta::nanoseconds(nanos)
            })
        };
        cx.store.start_run(&start(1_700)).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        cx.store.start_run(&start(1_200)).await.unwrap();
        assert_kind(
            cx.store.start_run(&start(2_000)).await,
            ErrorKind::RunFinished,
        );
    }

    async fn an_unknown_run_is_not_found(cx) {
        assert_kind(cx.store.get_run("r").await, ErrorKind::NotFound);
    }

    async fn a_dry_run_is_found_by_its_id(cx) {
        let run = with_status("r", 0, RunStatus::DRY_RUN);
        cx.store.start_run(&run).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
    }

    async fn initializing_again_keeps_the_stored_runs(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.initialize().await.unwrap();
        cx.store.initialize().await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
    }
}
