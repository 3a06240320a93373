//! Owners, heartbeats, and sweeps that end the runs of dead owners.

use std::time::Duration;

use futures_util::future::join_all;
use runtrail_audit::{
    Clock, Error, ErrorKind, Heartbeat, Owner, Ownership, RunCreation, RunStats, RunStatus, Storage,
};
use runtrail_store::AuditStore;

use crate::fixture::*;

/// This store with an owner of this id, which is alive.
async fn owned(cx: &Cx<'_, AuditStore>, id: &str) -> AuditStore {
    let store = cx.store.clone().with_owner(Owner::new("host-1:42").id(id));
    assert_eq!(store.heartbeat().await.unwrap(), Heartbeat::Renewed);
    store
}

/// Makes it look as if the last heartbeat of the owner was a minute earlier.
async fn age(cx: &Cx<'_, AuditStore>, id: &str) {
    cx.sql(&format!(
        "UPDATE runtrail_owners SET last_seen_at = last_seen_at - 60000000 WHERE id = '{id}'"
    ))
    .await;
}

async fn status(cx: &Cx<'_, AuditStore>, id: &str) -> String {
    cx.store.get_run(id).await.unwrap().status.to_string()
}

cases_of_the_store! {
    async fn a_run_belongs_to_the_owner_of_its_store(cx) {
        let store = owned(cx, "a").await;
        store.start_run(&running("started")).await.unwrap();
        store.create_run(&running("created")).await.unwrap();
        store.start_run(&running("given").owner("b")).await.unwrap();
        cx.store.start_run(&running("none")).await.unwrap();
        let mut owners = Vec::new();
        for id in ["started", "created", "given", "none"] {
            owners.push(cx.store.get_run(id).await.unwrap().owner_id);
        }
        let [a, b] = ["a", "b"].map(|id| Some(id.to_owned()));
        assert_eq!(owners, [a.clone(), a, b, None]);
        assert_eq!(cx.store.owner(), None);
        assert_eq!(store.owner().unwrap().id, "a");
    }

    async fn a_run_that_is_started_again_belongs_to_the_new_owner(cx) {
        let first = owned(cx, "a").await;
        let second = owned(cx, "b").await;
        first.start_run(&running("r")).await.unwrap();
        second.start_run(&running("r")).await.unwrap();
        second.start_run(&running("r")).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().owner_id.unwrap(), "b");
        age(cx, "a").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 0);
        // A finished run keeps its owner.
        second.finish_run("r", &stats()).await.unwrap();
        first.start_run(&running("r")).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().owner_id.unwrap(), "b");
    }

    async fn a_sweep_ends_the_running_runs_of_a_dead_owner(cx) {
        let store = owned(cx, "a").await;
        store.start_run(&running_at("r", 10)).await.unwrap();
        store.start_run(&running_at("finished", 11)).await.unwrap();
        store.finish_run("finished", &stats()).await.unwrap();
        let finished = cx.store.get_run("finished").await.unwrap();
        cx.store.start_run(&running("without owner")).await.unwrap();
        owned(cx, "b").await.start_run(&running("alive")).await.unwrap();
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 0);

        age(cx, "a").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 1);
        let run = cx.store.get_run("r").await.unwrap();
        let owner = cx.store.find_owner("a").await.unwrap().unwrap();
        assert!(!owner.is_alive);
        assert_eq!(run.status, RunStatus::INTERRUPTED);
        assert_eq!(run.finished_at, Some(owner.last_seen_at));
        assert!(run.error.starts_with("interrupted: its owner host-1:42 (a) was last seen at 2"));
        let time = (owner.last_seen_at - at(10)).num_microseconds().unwrap() as f64 / 1e6;
        assert_eq!(run.runtime_seconds, time);
        assert_eq!(cx.store.get_run("finished").await.unwrap(), finished);
        assert_eq!(status(cx, "without owner").await, "running");
        assert_eq!(status(cx, "alive").await, "running");
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 0);
    }

    async fn a_run_never_ends_before_its_start(cx) {
        let store = owned(cx, "a").await;
        let late = chrono::Utc::now() + chrono::TimeDelta::days(1);
        let late = chrono::SubsecRound::trunc_subsecs(late, 6);
        store.start_run(&with(running("r"), |run| run.started_at = late)).await.unwrap();
        age(cx, "a").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 1);
        let run = cx.store.get_run("r").await.unwrap();
        assert_eq!((run.finished_at, run.runtime_seconds), (Some(late), 0.0));
    }

    async fn descendants_without_a_living_owner_end_with_a_run(cx) {
        let dead = owned(cx, "dead").await;
        let dead_too = owned(cx, "dead too").await;
        let alive = owned(cx, "alive").await;
        dead.start_run(&running("top")).await.unwrap();
        cx.store.start_run(&child("child", "top")).await.unwrap();
        cx.store.start_run(&child("finished", "top")).await.unwrap();
        cx.store.finish_run("finished", &stats()).await.unwrap();
        cx.store.start_run(&child("below finished", "finished")).await.unwrap();
        dead_too.start_run(&child("of dead too", "child")).await.unwrap();
        alive.start_run(&child("of alive", "child")).await.unwrap();
        cx.store.start_run(&child("below alive", "of alive")).await.unwrap();
        cx.store.start_run(&child("unknown owner", "top").owner("unknown")).await.unwrap();
        // A cycle, which the sweep must leave.
        cx.store.start_run(&child("cycle", "cycle")).await.unwrap();
        cx.store.start_run(&running("other")).await.unwrap();
        age(cx, "dead").await;
        age(cx, "dead too").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 5);
        for (id, expected) in [
            ("top", "interrupted"),
            ("child", "interrupted"),
            ("finished", "ok"),
            ("below finished", "interrupted"),
            ("of dead too", "interrupted"),
            ("of alive", "running"),
            ("below alive", "running"),
            ("unknown owner", "interrupted"),
            ("cycle", "running"),
            ("other", "running"),
        ] {
            assert_eq!(status(cx, id).await, expected, "{id}");
        }
    }

    async fn a_cycle_of_runs_ends_once(cx) {
        let store = owned(cx, "a").await;
        store.start_run(&child("r", "s")).await.unwrap();
        cx.store.start_run(&child("s", "r")).await.unwrap();
        age(cx, "a").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 2);
    }

    async fn the_owner_of_an_interrupted_run_can_finish_it_once(cx) {
        let store = owned(cx, "a").await;
        let other = owned(cx, "b").await;
        for id in ["r", "s"] {
            store.start_run(&running(id)).await.unwrap();
        }
        age(cx, "a").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 2);
        assert_kind(cx.store.finish_run("r", &stats()).await, ErrorKind::RunFinished);
        assert_kind(other.finish_run("r", &stats()).await, ErrorKind::RunFinished);
        let again = RunStats::new(RunStatus::INTERRUPTED).output("another outcome");
        assert_kind(store.finish_run("r", &again).await, ErrorKind::RunFinished);
        assert_eq!(status(cx, "r").await, "interrupted");

        store.finish_run("r", &stats()).await.unwrap();
        store.finish_run("r", &stats()).await.unwrap();
        let run = cx.store.get_run("r").await.unwrap();
        assert_eq!(run.stats(), stats());
        assert_eq!(run.finished_at, Some(cx.clock.now()));
        let late = RunStats::new(RunStatus::ERROR);
        assert_kind(store.finish_run("r", &late).await, ErrorKind::RunFinished);
        // Finished by the owner with the status of a sweep: only its own call replaces it.
        assert_kind(other.finish_run("s", &stats()).await, ErrorKind::RunFinished);
    }

    async fn concurrent_late_finishes_leave_one_outcome(cx) {
        let store = owned(cx, "a").await;
        store.start_run(&running("r")).await.unwrap();
        age(cx, "a").await;
        cx.store.sweep_interrupted().await.unwrap();
        let outcomes: Vec<_> = (0..8)
            .map(|number| RunStats::new(RunStatus::OK).output(format!("{number}")))
            .collect();
        let answers = join_all(outcomes.iter().map(|stats| store.finish_run("r", stats))).await;
        let stored = cx.store.get_run("r").await.unwrap();
        for (answer, outcome) in answers.into_iter().zip(&outcomes) {
            match stored.output == outcome.output {
                true => answer.unwrap(),
                false => drop(assert_kind(answer, ErrorKind::RunFinished)),
            }
        }
    }

    async fn a_late_heartbeat_says_so_once(cx) {
        let store = owned(cx, "a").await;
        let seen = cx.store.find_owner("a").await.unwrap().unwrap();
        assert!(seen.is_alive);
        assert_eq!(seen.owner, *store.owner().unwrap());
        age(cx, "a").await;
        let last_seen_at = seen.last_seen_at - Duration::from_secs(60);
        assert_eq!(store.heartbeat().await.unwrap(), Heartbeat::Late { last_seen_at });
        assert_eq!(store.heartbeat().await.unwrap(), Heartbeat::Renewed);
        let now = cx.store.find_owner("a").await.unwrap().unwrap();
        assert!(now.is_alive && now.last_seen_at >= seen.last_seen_at);
    }

    async fn a_heartbeat_uses_the_clock_of_the_database(cx) {
        // The store's clock is years off.
        cx.clock.advance(-1_000_000_000);
        let store = owned(cx, "a").await;
        store.start_run(&running("r")).await.unwrap();
        let seen = cx.store.find_owner("a").await.unwrap().unwrap().last_seen_at;
        let off = (chrono::Utc::now() - seen).num_milliseconds().abs();
        assert!(off < 30_000, "{off} ms");
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 0);
    }

    /// The store's own clock moves on, so a heartbeat is due; the database's doesn't.
    async fn starting_a_run_renews_an_owner_whose_heartbeat_is_due(cx) {
        let store = owned(cx, "a").await;
        age(cx, "a").await;
        store.start_run(&running("r")).await.unwrap();
        assert!(!cx.store.find_owner("a").await.unwrap().unwrap().is_alive);
        cx.clock.advance(10);
        store.start_run(&running("s")).await.unwrap();
        assert!(cx.store.find_owner("a").await.unwrap().unwrap().is_alive);
        let new = cx.store.clone().with_owner(Owner::new("").id("new"));
        new.create_run(&running("t")).await.unwrap();
        assert!(cx.store.find_owner("new").await.unwrap().unwrap().is_alive);
    }

    async fn a_short_lease_ends_by_itself(cx) {
        let owner = Owner::new("").id("a").lease(Duration::from_millis(200));
        let store = cx.store.clone().with_owner(owner);
        store.start_run(&running("r")).await.unwrap();
        let swept = async || cx.store.sweep_interrupted().await.unwrap();
        for _ in 0..300 {
            if swept().await == 1 {
                assert_eq!(status(cx, "r").await, "interrupted");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the run was never ended");
    }

    async fn many_sweeps_at_once_end_each_run_once(cx) {
        for owner in ["a", "b", "c"] {
            let store = owned(cx, owner).await;
            for number in 0..150 {
                store.start_run(&running(&format!("{owner}-{number}"))).await.unwrap();
            }
            age(cx, owner).await;
        }
        let sweeps = join_all((0..6).map(|_| cx.store.sweep_interrupted())).await;
        let ended: u64 = sweeps.into_iter().map(Result::unwrap).sum();
        assert_eq!(ended, 450);
    }

    async fn invalid_owners_are_refused(cx) {
        let too_long = "x".repeat(256);
        let owner = || Owner::new("label").id("a");
        for (owner, field) in [
            (owner().id(""), "owner_id"),
            (owner().id(too_long.as_str()), "owner_id"),
            (owner().id("a\0"), "owner_id"),
            (Owner::new(too_long.as_str()), "owner_label"),
            (owner().lease(Duration::ZERO), "lease"),
            (owner().lease(Duration::MAX), "lease"),
        ] {
            let store = cx.store.clone().with_owner(owner);
            assert_invalid(store.heartbeat().await, field);
            assert_invalid(store.start_run(&running("r")).await, field);
            assert_invalid(store.create_run(&running("r")).await, field);
        }
        assert_invalid(cx.store.start_run(&running("r").owner("")).await, "owner_id");
        assert_invalid(cx.store.heartbeat().await, "owner");
        assert_invalid(cx.store.find_owner("").await, "owner_id");
        assert_kind(cx.store.get_run("r").await, ErrorKind::NotFound);
        assert_eq!(cx.store.find_owner("a").await.unwrap(), None);
    }

    async fn an_owner_is_purged_with_the_last_of_its_runs(cx) {
        for id in ["gone", "kept", "alive"] {
            owned(cx, id).await.start_run(&running(id)).await.unwrap();
        }
        age(cx, "gone").await;
        age(cx, "kept").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 2);
        cx.sql("UPDATE runtrail_owners SET last_seen_at = 1 WHERE id <> 'alive'").await;
        cx.sql("UPDATE skill_runs SET finished_at = 2 WHERE id = 'gone'").await;
        assert_eq!(cx.store.purge_older_than(at(0)).await.unwrap(), 1);
        assert_eq!(cx.store.find_owner("gone").await.unwrap(), None);
        for id in ["kept", "alive"] {
            assert!(cx.store.find_owner(id).await.unwrap().is_some(), "{id}");
        }
    }

    async fn a_swept_owner_is_skipped_until_its_next_heartbeat(cx) {
        let store = owned(cx, "a").await;
        store.start_run(&running("r")).await.unwrap();
        age(cx, "a").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 1);
        let unswept = "SELECT id FROM runtrail_owners WHERE swept_at IS NULL";
        assert_eq!(fetch::<String>(cx.db, unswept).await, ["a"]);
        cx.sql("UPDATE runtrail_owners SET last_seen_at = last_seen_at - 3600000000").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 0);
        assert!(fetch::<String>(cx.db, unswept).await.is_empty());
        store.heartbeat().await.unwrap();
        assert_eq!(fetch::<String>(cx.db, unswept).await, ["a"]);
    }
}

/// Holds a run in an open transaction while others are swept.
#[test]
fn a_locked_run_does_not_keep_others_from_being_swept() {
    run_on_own_store(Backend::Postgres, async |cx| {
        use sea_orm::TransactionTrait;

        for owner in ["a", "b"] {
            let store = owned(cx, owner).await;
            for number in 0..3 {
                store
                    .start_run(&running(&format!("{owner}-{number}")))
                    .await
                    .unwrap();
            }
        }
        cx.store
            .start_run(&child("below a-1", "a-1"))
            .await
            .unwrap();
        age(cx, "a").await;
        let locked = cx.db.begin().await.unwrap();
        execute(
            &locked,
            "SELECT id FROM skill_runs WHERE id = 'a-0' FOR UPDATE",
        )
        .await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 3);
        locked.rollback().await.unwrap();
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 1);

        // A locked descendant stays with its ancestor for the next sweep.
        cx.store
            .start_run(&child("below b-1", "b-1"))
            .await
            .unwrap();
        age(cx, "b").await;
        let locked = cx.db.begin().await.unwrap();
        execute(
            &locked,
            "SELECT id FROM skill_runs WHERE id = 'below b-1' FOR UPDATE",
        )
        .await;
        let busy = cx.store.sweep_interrupted().await;
        assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
        assert_eq!(status(cx, "b-1").await, "running");
        locked.rollback().await.unwrap();
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 4);
    });
}
