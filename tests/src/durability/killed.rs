use std::env;
use std::io::{BufRead, BufReader};

use runtrail_audit::Storage;
use runtrail_store::AuditStore;

use super::cancelled::ORPHANS;
use crate::fixture::*;

const URL: &str = "RUNTRAIL_TEST_CHILD_URL";

/// Says which writes were acknowledged, for as long as it is let.
#[test]
#[ignore = "a child process of the cases below"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_writes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = AuditStore::connect(env::var(URL).unwrap()).await.unwrap();
        for number in 0.. {
            let id = number.to_string();
            store.start_run(&running(&id)).await.unwrap();
            println!("\nstarted {id}");
            store.append_log(&event(&id, 0)).await.unwrap();
            println!("appended {id}");
            store.finish_run(&id, &stats()).await.unwrap();
            println!("finished {id}");
        }
    });
}

/// Says when it begins, and purges everything.
#[test]
#[ignore = "a child process of the cases below"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_purges() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = AuditStore::connect(env::var(URL).unwrap()).await.unwrap();
        store.get_run("0").await.unwrap();
        println!("\npurging");
        store.purge_older_than(at(1_000_000)).await.unwrap();
    });
}

on_each_backend! {
    async fn what_was_acknowledged_survives_the_death_of_its_process(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let mut child = spawn_test("durability::killed::child_that_writes", &[(URL, &database.url())]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        while acknowledged.len() < 400 {
            let line = lines.next().expect("the child stopped by itself").unwrap();
            if let Some((what, id)) = line.split_once(' ')
                && ["started", "appended", "finished"].contains(&what)
            {
                acknowledged.push((what.to_owned(), id.to_owned()));
            }
        }
        // SIGKILL
        child.kill().unwrap();
        child.wait().unwrap();

        for (what, id) in acknowledged {
            match what.as_str() {
                "started" => drop(store.get_run(&id).await.unwrap()),
                "appended" => assert_eq!(store.list_logs_by_run(&id).await.unwrap().len(), 1),
                _ => assert_eq!(store.get_run(&id).await.unwrap().stats(), stats()),
            }
        }
        // Whatever it was at when it died can be repeated.
        store.start_run(&running("0")).await.unwrap();
        store.append_log(&event("0", 0)).await.unwrap();
        store.finish_run("0", &stats()).await.unwrap();
    }

    async fn a_killed_purge_leaves_no_orphan_and_completes_when_it_is_repeated(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let db = database.connection().await;
        for number in 0..1_500 {
            let run = finished_at(&number.to_string(), number);
            store.start_run(&run).await.unwrap();
            store.append_log(&event(&run.id, 0)).await.unwrap();
        }
        let mut child = spawn_test("durability::killed::child_that_purges", &[(URL, &database.url())]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().map_while(Result::ok).any(|line| line == "purging"));
        let begun = std::time::Instant::now();
        while count(&db, "skill_runs").await == 1_500 {
            assert!(begun.elapsed().as_secs() < 60, "it never began");
        }
        child.kill().unwrap();
        child.wait().unwrap();

        assert_eq!(count(&db, ORPHANS).await, 0);
        store.purge_older_than(at(1_000_000)).await.unwrap();
        assert_eq!(count(&db, "skill_runs").await, 0);
        assert_eq!(count(&db, "skill_run_logs").await, 0);
    }
}
