//! Real runs, imported by the example's code and compared with the file.

#[path = "../../crates/runtrail/examples/agent_runs/import.rs"]
mod import;

use std::collections::BTreeMap;
use std::fs;

use runtrail_audit::{Page, RunFilter, RunStatus, Storage};
use runtrail_store::AuditStore;
use serde_json::Value;

use crate::fixture::*;

const SAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/runtrail/examples/agent_runs/sample.json"
);
/// Next to the repository, not in it. `cargo xtask test` reports if the file is missing.
const TAU_BENCH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/data/tau-bench-airline-gpt-4o.json"
);

/// What the file contains, counted without the code under test.
#[derive(Default)]
struct Expected {
    messages: usize,
    rewarded: u64,
    trials_by_task: BTreeMap<u64, Vec<u64>>,
}

impl Expected {
    fn of(trials: &[Value]) -> Self {
        let mut expected = Self::default();
        for trial in trials {
            expected.messages += trial["traj"].as_array().unwrap().len();
            expected.rewarded += u64::from(trial["reward"] == 1.0);
            let task = trial["task_id"].as_u64().unwrap();
            expected
                .trials_by_task
                .entry(task)
                .or_default()
                .push(trial["trial"].as_u64().unwrap());
        }
        expected
    }
}

async fn import_and_compare(database: &TestDatabase, file: &str) -> import::Imported {
    let text = fs::read_to_string(file).unwrap_or_else(|err| panic!("{file}: {err}"));
    let trials: Vec<Value> = serde_json::from_str(&text).unwrap();
    let expected = Expected::of(&trials);
    let store = AuditStore::connect(database.url()).await.unwrap();
    store.initialize().await.unwrap();
    let imported = import::import(&store, &text).await.unwrap();

    assert_eq!(imported.trials, trials.len());
    assert_eq!(imported.tasks, expected.trials_by_task.len());
    assert_eq!(imported.events, expected.messages);

    // Every message of every trial is stored unchanged.
    for trial in &trials {
        let task = trial["task_id"].as_u64().unwrap();
        let id = import::trial_run_id(task, trial["trial"].as_u64().unwrap());
        let messages = trial["traj"].as_array().unwrap();
        let events = store.list_logs_by_run(&id).await.unwrap();
        assert!(
            events.iter().map(|event| &event.payload).eq(messages),
            "{id}"
        );
        assert!(
            events
                .iter()
                .map(|event| event.event_type.as_str())
                .eq(messages.iter().map(|m| m["role"].as_str().unwrap()))
        );

        let run = store.get_run(&id).await.unwrap();
        let calls = |message: &Value| message["tool_calls"].as_array().map_or(0, Vec::len);
        assert_eq!(
            run.tool_calls,
            messages.iter().map(calls).sum::<usize>() as u64
        );
        assert_eq!(run.status == RunStatus::OK, trial["reward"] == 1.0);
        assert_eq!(
            run.inputs["instruction"],
            trial["info"]["task"]["instruction"]
        );
        assert_eq!(run.caller_id, trial["info"]["task"]["user_id"]);
        assert_eq!(
            ids(&store.walk_parent_chain(&id).await.unwrap()),
            [id.as_str(), &import::task_run_id(task)]
        );
    }
    // Queries by parent, skill and status.
    for (task, numbers) in &expected.trials_by_task {
        let children = store
            .list_children_by_parent(&import::task_run_id(*task))
            .await
            .unwrap();
        let mut trials: Vec<_> = numbers
            .iter()
            .map(|number| import::trial_run_id(*task, *number))
            .collect();
        trials.sort_by(|a, b| b.cmp(a));
        assert_eq!(ids(&children), trials);
        assert!(children.iter().all(|run| !run.is_running()));
    }
    let succeeded = RunFilter::new().skill(import::SKILL).status(RunStatus::OK);
    assert_eq!(
        store.count_runs_filtered(&succeeded).await.unwrap(),
        expected.rewarded
    );
    let top = store
        .list_runs_filtered(&RunFilter::new().top_level_only(), Page::ALL)
        .await
        .unwrap();
    assert_eq!(top.len(), expected.trials_by_task.len());
    assert_eq!(
        store
            .count_runs_by_skill(import::SKILL, false)
            .await
            .unwrap(),
        trials.len() as u64
    );

    // An import can be repeated, since each of its writes can.
    assert_eq!(import::import(&store, &text).await.unwrap(), imported);
    let everything = RunFilter::new().include_dry_run();
    let runs = store.count_runs_filtered(&everything).await.unwrap();
    assert_eq!(runs as usize, imported.trials + imported.tasks);
    imported
}

on_each_backend! {
    async fn runs_of_the_sample_are_imported_and_read_back(database) {
        let imported = import_and_compare(database, SAMPLE).await;
        assert_eq!(
            imported,
            import::Imported {
                tasks: 2,
                trials: 4,
                events: 21
            }
        );
    }

    async fn runs_of_tau_bench_are_imported_and_read_back(database) {
        let imported = import_and_compare(database, TAU_BENCH).await;
        assert_eq!(
            imported,
            import::Imported {
                tasks: 50,
                trials: 200,
                events: 5_308
            }
        );
    }
}
