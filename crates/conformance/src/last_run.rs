//! When skills last ran.

use std::collections::HashMap;

use runtrail_audit::{RunStatus, SkillRun, Storage};

use crate::support::*;

async fn start(
    store: &(impl Storage + ?Sized),
    skill: &str,
    id: &str,
    second: i64,
    status: RunStatus,
) {
    let run = with(with_status(id, second, status), |run| {
        run.skill_id = skill.into()
    });
    store.start_run(&run).await.unwrap();
}

fn skills(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Starts runs of a thousand skills, and requests the last runs of many more.
async fn request_last_runs(store: &(impl Storage + ?Sized), number: usize) {
    for skill in 0..1_000 {
        let run = SkillRun::new(format!("run {skill}"), format!("skill {skill}"), at(skill));
        store.start_run(&run).await.unwrap();
    }
    let names: Vec<String> = (0..number).map(|skill| format!("skill {skill}")).collect();
    let last_runs = store.last_run_by_skills(&names, false).await.unwrap();
    assert_eq!(last_runs.len(), number.min(1_000));
    assert_eq!(last_runs["skill 999"], at(999));
}

cases! {
    ($) Storage, last_run_cases: last_run

    async fn each_skill_with_runs_has_the_start_of_its_newest_run(cx) {
        start(cx.store, "a", "1", 10, RunStatus::OK).await;
        start(cx.store, "a", "2", 30, RunStatus::OK).await;
        start(cx.store, "a", "3", 20, RunStatus::OK).await;
        start(cx.store, "b", "4", 5, RunStatus::RUNNING).await;
        start(cx.store, "c", "5", 99, RunStatus::OK).await;
        let last_runs = cx
            .store
            .last_run_by_skills(&skills(&["a", "b", "never"]), false)
            .await
            .unwrap();
        assert_eq!(
            last_runs,
            HashMap::from([("a".into(), at(30)), ("b".into(), at(5))])
        );
    }

    async fn failed_runs_do_not_count_unless_asked_for(cx) {
        start(cx.store, "a", "1", 10, RunStatus::OK).await;
        start(cx.store, "a", "2", 20, RunStatus::ERROR).await;
        start(cx.store, "a", "3", 30, RunStatus::TIMEOUT).await;
        start(cx.store, "b", "4", 40, RunStatus::ERROR).await;
        let names = skills(&["a", "b"]);
        let without = cx.store.last_run_by_skills(&names, false).await.unwrap();
        assert_eq!(without, HashMap::from([("a".into(), at(10))]));
        let with = cx.store.last_run_by_skills(&names, true).await.unwrap();
        assert_eq!(
            with,
            HashMap::from([("a".into(), at(30)), ("b".into(), at(40))])
        );
    }

    async fn every_other_status_counts(cx) {
        for (number, status) in ["running", "ok", "cancelled", "dry_run", "", "Error"]
            .iter()
            .enumerate()
        {
            start(
                cx.store,
                status,
                &number.to_string(),
                7,
                RunStatus::from(*status),
            )
            .await;
            let last_runs = cx
                .store
                .last_run_by_skills(&skills(&[status]), false)
                .await
                .unwrap();
            assert_eq!(last_runs, HashMap::from([((*status).into(), at(7))]));
        }
    }

    async fn a_skill_requested_twice_is_returned_once(cx) {
        start(cx.store, "a", "1", 10, RunStatus::OK).await;
        let last_runs = cx
            .store
            .last_run_by_skills(&skills(&["a", "a"]), false)
            .await
            .unwrap();
        assert_eq!(last_runs, HashMap::from([("a".into(), at(10))]));
    }

    async fn skills_with_odd_names_are_found(cx) {
        let names = skills(&[
            "",
            "\"",
            "'",
            "\\",
            "ü",
            "日本",
            "\u{1F600}",
            "a\nb",
            "$1",
            "?",
            "{}",
        ]);
        for name in &names {
            start(cx.store, name, &format!("run of {name}"), 1, RunStatus::OK).await;
        }
        let last_runs = cx.store.last_run_by_skills(&names, false).await.unwrap();
        assert_eq!(last_runs.len(), names.len());
    }

    async fn an_empty_list_of_skills_has_no_last_runs(cx) {
        start(cx.store, "a", "1", 10, RunStatus::OK).await;
        assert!(
            cx.store
                .last_run_by_skills(&[], true)
                .await
                .unwrap()
                .is_empty()
        );
    }

    async fn the_last_runs_of_32767_skills_are_found(cx) {
        request_last_runs(cx.store, 32_767).await;
    }

    async fn the_last_runs_of_65536_skills_are_found(cx) {
        request_last_runs(cx.store, 65_536).await;
    }

    async fn the_last_runs_of_200000_skills_are_found(cx) {
        request_last_runs(cx.store, 200_000).await;
    }
}
