//! `sweep`, `list --stale`, and the owner of a run of `exec`.

use std::time::Duration;

use runtrail_audit::{Owner, Ownership, RunStatus, Storage};

use crate::fixture::*;

/// Makes it look as if the last heartbeat of every owner was a minute earlier.
async fn age_owners(database: &TestDatabase) {
    let db = database.connection().await;
    execute(
        &db,
        "UPDATE runtrail_owners SET last_seen_at = last_seen_at - 60000000",
    )
    .await;
}

/// Ages the owner of an `exec` and sweeps, until its run ends. A heartbeat may arrive in between.
async fn sweep_the_run_of_an_exec(cli: &Cli, database: &TestDatabase) {
    for _ in 0..20 {
        age_owners(database).await;
        match cli.succeeds(&["sweep"]).as_str() {
            NOTHING => {}
            printed => return assert_eq!(printed, "ended 1 run as interrupted\n"),
        }
    }
    panic!("the run was never ended");
}

const NOTHING: &str = "ended no runs\n";

on_each_backend! {
    async fn a_sweep_ends_the_run_of_a_killed_exec(database) {
        let cli = Cli::on(database).await;
        let script = "echo started; sleep 20";
        let mut child = cli.spawn_exec(&["--id", "r", "--", "sh", "-c", script]);
        cli.wait_for_events("r", 1).await;
        assert_eq!(cli.succeeds(&["sweep"]), NOTHING);
        let shown = cli.succeeds(&["show", "r"]);
        let process = format!("process {} on ", child.id());
        assert!(shown.contains(&process) && shown.contains(", alive"), "{shown}");

        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(cli.succeeds(&["sweep"]), NOTHING);
        sweep_the_run_of_an_exec(&cli, database).await;
        let run = cli.run("r").await;
        assert_eq!(run.status, RunStatus::INTERRUPTED);
        assert!(run.error.contains(&process), "{}", run.error);
        let shown = cli.succeeds(&["show", "r"]);
        assert!(shown.contains(&process) && shown.contains("last seen"), "{shown}");
    }

    /// The sweep comes before the next heartbeat, but the owner can still finish its run.
    async fn an_exec_that_was_swept_still_records_its_outcome(database) {
        let cli = Cli::on(database).await;
        let script = "echo started; while ! test -e go; do sleep 0.02; done";
        let mut child = cli.spawn_exec(&["--id", "r", "--", "sh", "-c", script]);
        cli.wait_for_events("r", 1).await;
        sweep_the_run_of_an_exec(&cli, database).await;
        std::fs::write(cli.path("go"), "").unwrap();
        assert!(ended(&mut child).success());
        assert_eq!(cli.run("r").await.status, RunStatus::OK);
    }

    async fn exec_sends_heartbeats(database) {
        let cli = Cli::on(database).await;
        let script = "echo started; while ! test -e go; do sleep 0.1; done";
        let mut child = cli.spawn_exec(&["--id", "r", "--", "sh", "-c", script]);
        cli.wait_for_events("r", 1).await;
        let owner = cli.run("r").await.owner_id.unwrap();
        age_owners(database).await;
        let mut is_alive = false;
        for _ in 0..300 {
            is_alive = cli.store.find_owner(&owner).await.unwrap().unwrap().is_alive;
            if is_alive {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(is_alive, "there was no heartbeat within 30 s");
        assert_eq!(cli.store.sweep_interrupted().await.unwrap(), 0);
        std::fs::write(cli.path("go"), "").unwrap();
        assert!(ended(&mut child).success());
    }

    async fn list_stale_lists_running_runs_without_a_sign_of_life(database) {
        let cli = Cli::on(database).await;
        let alive = cli.store.clone().with_owner(Owner::new("a").id("alive"));
        alive.start_run(&running("alive")).await.unwrap();
        let dead = cli.store.clone().with_owner(Owner::new("a").id("dead"));
        dead.start_run(&running("dead")).await.unwrap();
        cli.store.start_run(&running("no owner")).await.unwrap();
        cli.store.start_run(&running("old event")).await.unwrap();
        cli.store.append_log(&event("old event", 0).created_at(at(5))).await.unwrap();
        cli.store.start_run(&running("new event")).await.unwrap();
        cli.store.append_log(&event("new event", 0).created_at(at(5))).await.unwrap();
        let now = chrono::Utc::now();
        cli.store.append_log(&event("new event", 1).created_at(now)).await.unwrap();
        let new = with(running("new"), |run| run.started_at = now);
        cli.store.start_run(&new).await.unwrap();
        cli.store.start_run(&finished_at("finished", 1)).await.unwrap();
        let db = database.connection().await;
        execute(&db, "UPDATE runtrail_owners SET last_seen_at = 1 WHERE id = 'dead'").await;

        let listed = cli.json(&["list", "--stale", "1h", "--json"]);
        let ids: Vec<_> = listed.iter().map(|run| run["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["old event", "no owner", "dead"]);
        assert_eq!(cli.succeeds(&["count", "--stale", "1h"]).trim(), "3");
    }
}
