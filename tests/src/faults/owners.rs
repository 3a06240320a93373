use std::env;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use runtrail_audit::{Owner, Ownership, RunStats, RunStatus};
use runtrail_record::Recorder;
use tokio::task::spawn_blocking;

use super::counts;
use super::writer::store_for_many_tasks;
use crate::fixture::*;

/// The variable that holds the id of a child's owner.
const OWNER: &str = "RUNTRAIL_TEST_OWNER";

/// Long enough for a process that waits for its turn on a busy machine.
const LEASE: Duration = Duration::from_secs(5);

/// How many owners live at the same time.
const OWNERS: u64 = 4;

/// How many sweeps run at the same time.
const SWEEPERS: u64 = 3;

/// Starts runs and some children, and finishes most of them, until it is killed. Prints the id of
/// each run that has started.
#[test]
#[ignore = "a child process of the case below"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_owns_runs() {
    runtime().block_on(async {
        let owner = Owner::new("child")
            .id(env::var(OWNER).unwrap())
            .lease(LEASE);
        let store = runtrail_store::AuditStore::connect(env::var(CHILD_URL).unwrap())
            .await
            .unwrap()
            .with_owner(owner);
        let recorder = Recorder::new(Arc::new(store));
        let mut open = std::collections::VecDeque::new();
        loop {
            let run = recorder.start("skill").await.unwrap();
            println!("\nstarted {}", run.id());
            let child = run.child("child").await.unwrap();
            println!("started {}", child.id());
            child.log("step", serde_json::json!(1));
            open.extend([run, child]);
            if open.len() > 6 {
                let run = open.pop_front().unwrap();
                run.finish(RunStats::new(RunStatus::OK)).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..40))).await;
        }
    });
}

/// Sweeps until it is stopped, and returns how many runs it has ended.
async fn keep_sweeping(database: &TestDatabase, is_over: &AtomicBool) -> u64 {
    let store = store_for_many_tasks(database).await;
    let mut ended = 0;
    while !is_over.load(Ordering::Relaxed) {
        ended += store.sweep_interrupted().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ended
}

on_each_backend! {
    /// Sweeps end no run of a living owner, and leave no run of a killed one open once its lease has
    /// expired.
    async fn sweeps_end_only_the_runs_of_killed_owners(database) {
        let store = &store_for_many_tasks(database).await;
        let statuses = async |owner: &str| {
            let db = database.connection().await;
            let query = format!("SELECT status FROM skill_runs WHERE owner_id = '{owner}'");
            fetch::<String>(&db, &query).await
        };
        let is_over = AtomicBool::new(false);
        let (started, interrupted) = (AtomicU64::new(0), AtomicU64::new(0));
        let kill_owners = async {
            for round in 0..counts::killed_owners().div_ceil(OWNERS) {
                let mut owners = Vec::new();
                for number in 0..OWNERS {
                    let owner = format!("owner-{round}-{number}");
                    let mut command = test_command("faults::owners::child_that_owns_runs");
                    command
                        .env(CHILD_URL, database.url())
                        .env(OWNER, &owner)
                        .stdout(Stdio::piped());
                    owners.push((Spawned::new(&mut command), owner));
                }
                // Kept open until the end: a process can't print to a closed pipe.
                let mut printed = Vec::new();
                for (process, owner) in &mut owners {
                    let mut lines = process.lines();
                    let started = move || (lines.any(|line| line.starts_with("started")), lines);
                    let (has_started, rest) = spawn_blocking(started).await.unwrap();
                    assert!(has_started, "{owner} has started no run");
                    printed.push(rest);
                }
                let mut killed = Vec::new();
                for (process, owner) in owners {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
                    let before = statuses(&owner).await;
                    assert!(
                        !before.iter().any(|status| status == "interrupted"),
                        "a sweep ended a run of {owner}, which is alive"
                    );
                    process.kill();
                    killed.push(owner);
                }
                tokio::time::sleep(LEASE + Duration::from_millis(200)).await;
                store.sweep_interrupted().await.unwrap();
                for owner in killed {
                    let after = statuses(&owner).await;
                    assert!(!after.iter().any(|status| status == "running"), "{owner}: {after:?}");
                    let ended = after.iter().filter(|status| *status == "interrupted").count();
                    started.fetch_add(after.len() as u64, Ordering::Relaxed);
                    interrupted.fetch_add(ended as u64, Ordering::Relaxed);
                }
            }
            is_over.store(true, Ordering::Relaxed);
        };
        let sweeps = (0..SWEEPERS).map(|_| keep_sweeping(database, &is_over));
        let ((), swept) = tokio::join!(kill_owners, futures_util::future::join_all(sweeps));
        let (started, interrupted) = (started.into_inner(), interrupted.into_inner());
        let swept: u64 = swept.into_iter().sum();
        assert!(swept <= interrupted, "{swept} of {interrupted}");
        assert!(interrupted > 0, "no owner had an open run");
        eprintln!(
            "{} owners killed on {:?}: {started} runs, {interrupted} interrupted, 0 left open",
            counts::killed_owners(),
            database.backend()
        );
    }
}
