//! Recording runs through handles.

use std::sync::Arc;
use std::time::Duration;

use runtrail_audit::{
    ErrorKind, History, Owner, Ownership, RunStats, RunStatus, SkillRun, SkillRunLog, Storage,
    Usage,
};
use runtrail_record::{Event, Recorder, RunHandle, ScopeError, Unwritten};
use runtrail_store::AuditStore;
use sea_orm::{DatabaseTransaction, TransactionTrait};
use serde_json::json;

use crate::fixture::*;

const LONG: Duration = Duration::from_secs(60);

fn recorder(store: &AuditStore) -> Recorder {
    let history: Arc<dyn History> = Arc::new(store.clone());
    Recorder::new(history)
}

async fn shut_down(recorder: &Recorder) {
    assert_eq!(recorder.shutdown(LONG).await, Unwritten::default());
}

fn types(events: &[SkillRunLog]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.event_type.as_str())
        .collect()
}

/// Blocks all other writers until the transaction ends.
async fn lock(database: &TestDatabase) -> DatabaseTransaction {
    let transaction = database.connection().await.begin().await.unwrap();
    let lock = match database.backend() {
        Backend::Sqlite => "DELETE FROM skill_runs WHERE id = ''",
        Backend::Postgres => "LOCK TABLE skill_runs IN EXCLUSIVE MODE",
    };
    execute(&transaction, lock).await;
    transaction
}

/// A store whose writes fail after 300 ms if they are blocked.
async fn hasty_store(database: &TestDatabase) -> AuditStore {
    database
        .store()
        .await
        .with_deadline(Duration::from_millis(300))
}

/// Records an event for each of these numbers.
fn log_numbers(run: &RunHandle, numbers: std::ops::Range<u32>) {
    for number in numbers {
        run.log("step", json!(number));
    }
}

/// A store with an owner of a short lease.
async fn owned_store(database: &TestDatabase) -> AuditStore {
    let owner = Owner::new("").id("owner").lease(Duration::from_secs(3));
    database.store().await.with_owner(owner)
}

/// Waits until the owner of [`owned_store`] is dead.
async fn owner_dies(store: &AuditStore) {
    for _ in 0..300 {
        if !store.find_owner("owner").await.unwrap().unwrap().is_alive {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the owner is still alive");
}

/// SQLite has one lock for all tables, so there the heartbeats would wait as well.
#[test]
fn heartbeats_go_on_while_a_write_has_to_wait() {
    on_database(Backend::Postgres, async |database| {
        let observer = database.store().await;
        let recorder = recorder(&owned_store(database).await);
        let run = recorder.start("s").await.unwrap();
        let locked = database.connection().await.begin().await.unwrap();
        execute(&locked, "LOCK TABLE skill_run_logs IN EXCLUSIVE MODE").await;
        run.log("step", json!(1));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(observer.sweep_interrupted().await.unwrap(), 0);
        locked.rollback().await.unwrap();
        run.finish(stats()).await.unwrap();
        shut_down(&recorder).await;
    });
}

on_each_backend! {
    async fn a_recorder_keeps_the_owner_of_its_runs_alive(database) {
        let observer = database.store().await;
        let recorder = recorder(&owned_store(database).await);
        let run = recorder.start("s").await.unwrap();
        let child = run.child("t").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(observer.sweep_interrupted().await.unwrap(), 0);
        assert_eq!(observer.get_run(child.id()).await.unwrap().owner_id.unwrap(), "owner");
        run.finish(stats()).await.unwrap();
        child.finish(stats()).await.unwrap();
        drop((run, child));
        shut_down(&recorder).await;
        drop(recorder);
        owner_dies(&observer).await;
    }

    async fn a_run_that_was_swept_gets_its_outcome_from_its_handle(database) {
        let observer = database.store().await;
        let recorder = recorder(&owned_store(database).await);
        let run = recorder.start("s").await.unwrap();
        let db = database.connection().await;
        let mut ended = 0;
        while ended == 0 {
            // A heartbeat may arrive before the sweep.
            execute(&db, "UPDATE runtrail_owners SET last_seen_at = last_seen_at - 60000000").await;
            ended = observer.sweep_interrupted().await.unwrap();
        }
        assert_eq!(ended, 1);
        run.finish(stats()).await.unwrap();
        assert_eq!(observer.get_run(run.id()).await.unwrap().stats(), stats());
        shut_down(&recorder).await;
    }

    async fn a_run_is_recorded_with_its_events_and_totals(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let run = recorder
            .start("summarise")
            .id("r")
            .caller("alice")
            .channel("cli")
            .input("topic", json!("tides"))
            .await
            .unwrap();
        assert_eq!(run.id(), "r");
        assert!(store.get_run("r").await.unwrap().is_running());
        run.log("thought", json!({"text": "hm"}));
        run.tool_call("search", json!({"query": "tides"}));
        let usage = Usage::new().model("m").input_tokens(100).output_tokens(20).thinking_tokens(5);
        let call = Event::model_call(usage.clone())
            .payload(json!({"text": "yes"}))
            .duration(Duration::from_millis(7));
        run.record(call);
        run.model_call(usage.clone());
        run.record(Event::tool_call("read", json!(null)).usage(Usage::new().input_tokens(3)));
        run.finish(RunStats::new(RunStatus::OK).output("In short: yes.")).await.unwrap();

        let stored = store.get_run("r").await.unwrap();
        assert_eq!(stored.caller_id, "alice");
        assert_eq!(stored.channel_id, "cli");
        assert_eq!(stored.inputs, object(json!({"topic": "tides"})));
        assert_eq!((stored.status, stored.output.as_str()), (RunStatus::OK, "In short: yes."));
        assert_eq!(stored.tool_calls, 2);
        assert_eq!(stored.total_input_tokens, 203);
        assert_eq!(stored.total_output_tokens, 40);
        assert_eq!(stored.total_thinking_tokens, 10);
        assert!(stored.runtime_seconds > 0.0);
        let events = store.list_logs_by_run("r").await.unwrap();
        let expected = ["thought", "tool_call", "model_call", "model_call", "tool_call"];
        assert_eq!(types(&events), expected);
        assert!(events.iter().map(|event| event.sequence).eq(0..5));
        assert_eq!(events[1].payload, json!({"tool": "search", "arguments": {"query": "tides"}}));
        assert_eq!(events[2].payload, json!({"text": "yes"}));
        assert_eq!(events[2].duration, Some(Duration::from_millis(7)));
        assert_eq!(events[2].usage, Some(usage));
        shut_down(&recorder).await;
    }

    async fn counts_of_the_host_replace_the_totals(database) {
        let store = database.store().await;
        let run = recorder(&store).start("s").await.unwrap();
        run.tool_call("t", json!(null));
        run.finish(stats()).await.unwrap();
        let stored = store.get_run(run.id()).await.unwrap();
        assert_eq!(stored.stats(), stats());
    }

    async fn the_end_of_a_run_can_be_queued_within_a_scope(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let run = recorder.start("s").label("env", "prod").await.unwrap();
        run.record(Event::tool_call("search", json!({})).result(json!([1])));
        run.record(Event::new("check", json!(7)).error("not 8"));
        let answer = run.scope(async {
            run.finish_later(RunStats::new(RunStatus::OK).output("yes"));
            // Ignored: the run has ended.
            run.finish_later(RunStats::new(RunStatus::ERROR));
            Ok::<_, String>(5)
        });
        assert_eq!(answer.await, Ok(5));
        shut_down(&recorder).await;
        let stored = store.get_run(run.id()).await.unwrap();
        assert_eq!((stored.status.as_str(), stored.output.as_str()), ("ok", "yes"));
        assert_eq!(stored.labels["env"], "prod");
        let events = store.list_logs_by_run(run.id()).await.unwrap();
        let search = json!({"tool": "search", "arguments": {}, "result": [1]});
        assert_eq!(events[0].payload, search);
        assert_eq!(events[1].payload, json!({"value": 7, "error": "not 8"}));
    }

    async fn a_child_has_the_caller_of_its_parent_and_names_it(database) {
        let store = database.store().await;
        let parent = recorder(&store).start("parent").caller("alice").channel("cli");
        let parent = parent.await.unwrap();
        let child = parent.child("child").await.unwrap();
        let children = store.list_children_by_parent(parent.id()).await.unwrap();
        assert_eq!(ids(&children), [child.id()]);
        let SkillRun { skill_id, caller_id, channel_id, .. } = &children[0];
        assert_eq!((&**skill_id, &**caller_id, &**channel_id), ("child", "alice", "cli"));
        let other = parent.child("other").caller("bob").await.unwrap();
        assert_eq!(store.get_run(other.id()).await.unwrap().caller_id, "bob");
    }

    async fn many_threads_record_events_of_many_runs(database) {
        const RUNS: usize = 8;
        const TASKS: usize = 8;
        const EVENTS: u64 = 50;

        let store = database.store().await;
        let recorder = recorder(&store);
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(recorder.start("s").await.unwrap());
        }
        let mut tasks = Vec::new();
        for run in runs.iter().cycle().take(RUNS * TASKS) {
            let run = run.clone();
            tasks.push(std::thread::spawn(move || {
                for number in 0..EVENTS {
                    run.log("step", json!(number));
                }
            }));
        }
        for task in tasks {
            task.join().unwrap();
        }
        for run in &runs {
            run.finish(RunStats::new(RunStatus::OK)).await.unwrap();
            let events = store.list_logs_by_run(run.id()).await.unwrap();
            let all = 0..TASKS as u64 * EVENTS;
            assert!(events.iter().map(|event| event.sequence).eq(all));
        }
        shut_down(&recorder).await;
    }

    async fn a_run_is_finished_once(database) {
        let store = database.store().await;
        let run = recorder(&store).start("s").await.unwrap();
        let clone = run.clone();
        run.finish(RunStats::new(RunStatus::OK)).await.unwrap();
        let again = clone.finish(RunStats::new(RunStatus::ERROR)).await;
        assert_kind(again, ErrorKind::RunFinished);
        assert_eq!(store.get_run(run.id()).await.unwrap().status, RunStatus::OK);
    }

    async fn a_finish_that_the_store_refuses_returns_its_error(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let run = recorder.start("s").await.unwrap();
        run.tool_call("t", json!(null));
        let refused = run.finish(RunStats::new(RunStatus::RUNNING)).await;
        assert_kind(refused, ErrorKind::InvalidInput);
        let stored = store.get_run(run.id()).await.unwrap();
        assert_eq!(stored.status, RunStatus::ERROR);
        assert_eq!(stored.tool_calls, 1);
        assert!(stored.error.starts_with("the outcome was refused: "), "{}", stored.error);
        let run = recorder.start("s").await.unwrap();
        store.finish_run(run.id(), &stats()).await.unwrap();
        let refused = run.finish(RunStats::new(RunStatus::OK)).await;
        assert_kind(refused, ErrorKind::RunFinished);
        shut_down(&recorder).await;
    }

    async fn a_dropped_run_ends_as_an_error(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let run = recorder.start("s").await.unwrap();
        let id = run.id().to_owned();
        run.log("step", json!(1));
        let clone = run.clone();
        drop(run);
        clone.log("step", json!(2));
        drop(clone);

        let panicking = recorder.start("s").await.unwrap();
        let panicked = panicking.id().to_owned();
        let thread = std::thread::spawn(move || {
            let _run = panicking;
            panic!("on purpose");
        });
        thread.join().unwrap_err();
        shut_down(&recorder).await;

        for (id, error) in [
            (id, "dropped without being finished"),
            (panicked, "dropped during a panic"),
        ]
        {
            let stored = store.get_run(&id).await.unwrap();
            assert_eq!((stored.status, stored.error.as_str()), (RunStatus::ERROR, error));
        }
    }

    async fn the_result_of_a_scope_ends_its_run(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let start = async || recorder.start("s").await.unwrap();
        let mut ended = Vec::new();
        let mut expect = |run: &RunHandle, status: &'static str, error: &'static str| {
            ended.push((run.id().to_owned(), status, error));
        };

        let run = start().await;
        let result = run.scope(async { run.log("step", json!(1)); Ok::<_, String>(7) }).await;
        assert_eq!(result, Ok(7));
        expect(&run, "ok", "");

        let run = start().await;
        let result = run.scope(async { Err::<u8, _>("too dry") }).await;
        assert_eq!(result, Err("too dry"));
        expect(&run, "error", "too dry");

        let run = start().await;
        expect(&run, "error", "panicked: …");
        let task = tokio::spawn(async move {
            run.scope(async {
                let number = 1;
                assert_eq!(number, 2, "never");
                Ok::<_, String>(())
            })
            .await
        });
        assert!(task.await.unwrap_err().is_panic());

        let run = start().await;
        let pending = run.scope(std::future::pending::<Result<(), String>>());
        assert!(poll_some(pending, 2).await.is_none());
        expect(&run, "cancelled", "cancelled");

        let run = start().await;
        let pending = std::future::pending::<Result<(), String>>();
        let result = run.scope_within(Duration::from_millis(5), pending).await;
        assert_eq!(result, Err(ScopeError::TimedOut));
        expect(&run, "timeout", "took longer than 5ms");

        let run = start().await;
        let result = run.scope_within(LONG, async { Err::<(), _>("wet") }).await;
        assert_eq!(result, Err(ScopeError::Failed("wet")));
        expect(&run, "error", "wet");

        let run = start().await;
        let result = run
            .scope(async {
                run.finish(RunStats::new("partial").output("half")).await.unwrap();
                Ok::<_, String>(())
            })
            .await;
        assert_eq!(result, Ok(()));
        expect(&run, "partial", "");

        shut_down(&recorder).await;
        for (id, status, error) in ended {
            let stored = store.get_run(&id).await.unwrap();
            assert_eq!(stored.status.as_str(), status, "{}", stored.error);
            match status {
                "error" if error.starts_with("panicked") => {
                    assert!(stored.error.starts_with("panicked: "), "{}", stored.error);
                    assert!(stored.error.contains("never"), "{}", stored.error);
                }
                _ => assert_eq!(stored.error, error),
            }
        }
    }

    async fn what_is_recorded_while_the_store_is_away_is_written_later(database) {
        let store = hasty_store(database).await;
        let recorder = recorder(&store).with_buffer(10, 1 << 20);
        let run = recorder.start("s").await.unwrap();
        let lock = lock(database).await;
        log_numbers(&run, 0..50);
        let unwritten = recorder.shutdown(Duration::from_millis(10)).await;
        assert_eq!((unwritten.events, unwritten.runs, unwritten.lost), (10, 0, 40));
        // After a shutdown, only ends of runs are accepted.
        log_numbers(&run, 50..60);
        let id = run.id().to_owned();
        drop(run);
        let unwritten = recorder.shutdown(Duration::from_millis(10)).await;
        assert_eq!((unwritten.events, unwritten.runs, unwritten.lost), (10, 1, 50));
        lock.rollback().await.unwrap();
        let unwritten = recorder.shutdown(LONG).await;
        assert_eq!((unwritten.events, unwritten.runs, unwritten.lost), (0, 0, 50));

        let events = store.list_logs_by_run(&id).await.unwrap();
        assert!(events.iter().map(|event| event.sequence).eq(0..11));
        let numbers: Vec<_> = events[..10].iter().map(|event| event.payload.clone()).collect();
        assert_eq!(numbers, (0..10).map(|number| json!(number)).collect::<Vec<_>>());
        assert_eq!(events[10].event_type, "dropped");
        assert_eq!(events[10].payload, json!({"events": 50}));
        assert!(!store.get_run(&id).await.unwrap().is_running());
    }

    async fn lost_events_are_reported_before_the_next_event(database) {
        let store = hasty_store(database).await;
        let recorder = recorder(&store).with_buffer(4, 1 << 20);
        let run = recorder.start("s").await.unwrap();
        let lock = lock(database).await;
        log_numbers(&run, 0..9);
        lock.rollback().await.unwrap();
        let mut stored = Vec::new();
        while stored.len() < 4 {
            stored = store.list_logs_by_run(run.id()).await.unwrap();
        }
        // The events may be stored a little before the buffer has room again.
        let mut number = 9;
        while stored.len() == 4 {
            log_numbers(&run, number..number + 1);
            number += 1;
            stored = store.list_logs_by_run(run.id()).await.unwrap();
        }
        run.finish(RunStats::new(RunStatus::OK)).await.unwrap();
        let events = store.list_logs_by_run(run.id()).await.unwrap();
        assert_eq!(types(&events)[..6], ["step", "step", "step", "step", "dropped", "step"]);
        assert!(events[4].payload["events"].as_u64().unwrap() >= 5, "{:?}", events[4]);
    }

    async fn a_refused_event_is_reported_and_the_others_are_stored(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let run = recorder.start("s").await.unwrap();
        let lock = lock(database).await;
        run.log("step", json!(1));
        run.log("event type that is too long".repeat(20), json!(1));
        run.model_call(Usage::new().input_tokens(1).cache_read_tokens(2));
        run.log("step", json!(2));
        lock.rollback().await.unwrap();
        run.finish(RunStats::new(RunStatus::OK)).await.unwrap();
        let events = store.list_logs_by_run(run.id()).await.unwrap();
        assert_eq!(types(&events), ["step", "step", "dropped"]);
        assert_eq!(events[2].payload, json!({"events": 2}));
        assert_eq!(recorder.shutdown(LONG).await.lost, 2);
    }

    async fn a_payload_that_is_nested_too_deeply_is_lost_and_nothing_else(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let run = recorder.start("s").await.unwrap();
        for depth in [64, 65, 1_000] {
            run.log("deep", (0..depth).fold(json!(1), |inner, _| json!([inner])));
        }
        run.finish(RunStats::new(RunStatus::OK)).await.unwrap();
        let events = store.list_logs_by_run(run.id()).await.unwrap();
        assert_eq!(types(&events), ["deep", "dropped"]);
        assert_eq!(events[1].payload, json!({"events": 2}));
    }

    async fn the_last_handle_may_outlive_its_recorder(database) {
        let store = database.store().await;
        let run = recorder(&store).start("s").await.unwrap();
        let id = run.id().to_owned();
        run.log("step", json!(1));
        drop(run);
        while store.get_run(&id).await.unwrap().is_running() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(store.list_logs_by_run(&id).await.unwrap().len(), 1);
    }
}

#[test]
fn what_one_runtime_has_not_written_the_next_one_writes() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        let recorder = recorder(&store);
        let other = recorder.clone();
        let of_ended_runtime = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let run = other.start("s").await.unwrap();
                // No other task runs before the runtime ends.
                run.log("step", json!(1));
                run.id().to_owned()
            })
        });
        let id = of_ended_runtime.join().unwrap();
        assert!(store.list_logs_by_run(&id).await.unwrap().is_empty());
        shut_down(&recorder).await;
        let stored = store.get_run(&id).await.unwrap();
        assert_eq!(stored.error, "dropped without being finished");
        assert_eq!(store.list_logs_by_run(&id).await.unwrap().len(), 1);
    });
}

#[test]
fn calls_outside_a_runtime_neither_panic_nor_lose_the_run() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        let recorder = recorder(&store);
        let run = recorder.start("s").await.unwrap();
        let (others, handle) = (recorder.clone(), run.clone());
        let thread = std::thread::spawn(move || {
            use futures_util::FutureExt;

            let started = others.start("s").into_future().now_or_never().unwrap();
            assert_kind(started.map(|_| ()), ErrorKind::Backend);
            handle.log("step", json!(1));
            let scope = handle.scope_within(LONG, async { Ok::<_, String>(3) });
            assert_eq!(scope.now_or_never(), Some(Ok(3)));
            let unwritten = others.shutdown(LONG).now_or_never().unwrap();
            assert!(unwritten.events + unwritten.runs <= 2, "{unwritten:?}");
        });
        thread.join().unwrap();
        shut_down(&recorder).await;
        assert_eq!(store.get_run(run.id()).await.unwrap().status, RunStatus::OK);
    });
}
