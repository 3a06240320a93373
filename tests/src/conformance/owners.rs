//! Stores with an owner, heartbeats, and sweeps that end the runs of dead owners.

use std::time::Duration;

use futures_util::future::join_all;
use runtrail_audit::{
    Clock, Error, ErrorKind, Heartbeat, Owner, Ownership, RunCreation, RunStats, RunStatus, Storage,
};
use runtrail_store::AuditStore;

use crate::fixture::*;

/// Returns the store with a living owner of this id.
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
        store.start_run(&running("taken over").owner("b")).await.unwrap();
        cx.store.start_run(&running("given").owner("b")).await.unwrap();
        cx.store.start_run(&running("none")).await.unwrap();
        let mut owners = Vec::new();
        for id in ["started", "created", "taken over", "given", "none"] {
            owners.push(cx.store.get_run(id).await.unwrap().owner_id);
        }
        let [a, b] = ["a", "b"].map(|id| Some(id.to_owned()));
        assert_eq!(owners, [a.clone(), a.clone(), a, b, None]);
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

    async fn descendants_without_a_living_owner_end_with_their_ancestor(cx) {
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
        // A cycle without a dead owner.
        cx.store.start_run(&child("cycle", "cycle")).await.unwrap();
        cx.store.start_run(&running("other")).await.unwrap();
        age(cx, "dead").await;
        age(cx, "dead too").await;
        // Seen later than the owner of the run above.
        cx.sql("UPDATE runtrail_owners SET last_seen_at = last_seen_at + 1000 WHERE id = 'dead too'")
            .await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 5);
        for (id, owner, message) in [
            ("top", "dead", "interrupted: its owner host-1:42 (dead) was"),
            ("child", "dead", "interrupted: the owner of an ancestor, host-1:42 (dead), was"),
            ("of dead too", "dead too", "interrupted: its owner host-1:42 (dead too) was"),
        ] {
            let run = cx.store.get_run(id).await.unwrap();
            assert!(run.error.starts_with(message), "{}", run.error);
            let owner = cx.store.find_owner(owner).await.unwrap().unwrap();
            assert_eq!(run.finished_at, Some(owner.last_seen_at), "{id}");
        }
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

    async fn each_run_of_a_cycle_ends_once(cx) {
        let store = owned(cx, "a").await;
        store.start_run(&child("r", "s")).await.unwrap();
        cx.store.start_run(&child("s", "r")).await.unwrap();
        age(cx, "a").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 2);
    }

    async fn the_owner_of_an_interrupted_run_can_finish_it_once(cx) {
        let store = owned(cx, "a").await;
        let other = owned(cx, "b").await;
        store.start_run(&running("r")).await.unwrap();
        age(cx, "a").await;
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 1);
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

    async fn only_the_first_heartbeat_after_the_lease_is_late(cx) {
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
        // The process learns from its next heartbeat that it was late.
        assert!(matches!(store.heartbeat().await.unwrap(), Heartbeat::Late { .. }));
        assert_eq!(store.heartbeat().await.unwrap(), Heartbeat::Renewed);
        let new = cx.store.clone().with_owner(Owner::new("").id("new"));
        new.create_run(&running("t")).await.unwrap();
        assert!(cx.store.find_owner("new").await.unwrap().unwrap().is_alive);
    }

    async fn a_lease_expires_without_heartbeats(cx) {
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
        assert_kind(cx.store.get_run("r").await, ErrorKind::NotFound);
        assert_eq!(cx.store.find_owner("a").await.unwrap(), None);
    }

    async fn a_purge_deletes_dead_owners_without_running_runs(cx) {
        for id in ["gone", "running", "alive"] {
            owned(cx, id).await.start_run(&running(id)).await.unwrap();
        }
        cx.store.finish_run("gone", &stats()).await.unwrap();
        cx.sql("UPDATE runtrail_owners SET last_seen_at = 1 WHERE id <> 'alive'").await;
        assert_eq!(cx.store.purge_older_than(at(-1)).await.unwrap(), 0);
        assert_eq!(cx.store.find_owner("gone").await.unwrap(), None);
        for id in ["running", "alive"] {
            assert!(cx.store.find_owner(id).await.unwrap().is_some(), "{id}");
        }
        // Even a cutoff in the future leaves a living one.
        cx.store.purge_older_than(at(1_000_000_000)).await.unwrap();
        assert!(cx.store.find_owner("alive").await.unwrap().is_some());
    }

    /// In the snapshot of a long transaction, every owner would seem dead.
    async fn a_sweep_on_a_callers_connection_is_refused(cx) {
        let store = owned(cx, "a").await;
        store.start_run(&running("r")).await.unwrap();
        age(cx, "a").await;
        assert_invalid(cx.store.on(cx.db).sweep_interrupted().await, "connection");
        assert_eq!(status(cx, "r").await, "running");
    }

    async fn a_damaged_owner_does_not_stop_a_sweep(cx) {
        for id in ["a", "b", "c"] {
            owned(cx, id).await.start_run(&running(id)).await.unwrap();
        }
        age(cx, "c").await;
        cx.sql("UPDATE runtrail_owners SET last_seen_at = -9223372036854775807 WHERE id = 'a'")
            .await;
        cx.sql("UPDATE runtrail_owners SET last_seen_at = 9223372036854775807 WHERE id = 'b'")
            .await;
        assert_kind(cx.store.find_owner("a").await, ErrorKind::Corrupt);
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 1);
        assert_eq!(status(cx, "c").await, "interrupted");
    }
}

/// Locks a run in an open transaction while a sweep ends others.
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
        // The server may still be ending the statement that waited, which holds the other runs.
        let mut ended = 0;
        for _ in 0..200 {
            ended += match cx.store.sweep_interrupted().await {
                Err(Error::Busy { .. }) => 0,
                ended => ended.unwrap(),
            };
            if ended == 4 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(ended, 4);
    });
}

/// A living owner takes over a child of a dead owner's run while a sweep waits for the row.
#[test]
fn a_run_that_a_living_owner_takes_over_is_not_ended() {
    run_on_own_store(Backend::Postgres, async |cx| {
        use sea_orm::TransactionTrait;

        owned(cx, "alive").await;
        let dead = owned(cx, "dead").await;
        for number in 0..30 {
            let [top, below] = [format!("top {number}"), format!("below {number}")];
            dead.start_run(&running(&top)).await.unwrap();
            cx.store.start_run(&child(&below, &top)).await.unwrap();
            age(cx, "dead").await;
            let take_over = cx.db.begin().await.unwrap();
            let owner = format!("UPDATE skill_runs SET owner_id = 'alive' WHERE id = '{below}'");
            execute(&take_over, &owner).await;
            let (swept, ()) = tokio::join!(cx.store.sweep_interrupted(), async {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..60))).await;
                take_over.commit().await.unwrap();
            });
            assert_eq!(swept.unwrap(), 1);
            assert_eq!(status(cx, &top).await, "interrupted");
            assert_eq!(status(cx, &below).await, "running");
        }
    });
}

#[test]
fn starts_that_wait_for_a_heartbeat_share_its_failure() {
    run_on_own_store(Backend::Postgres, async |cx| {
        use sea_orm::TransactionTrait;

        let store = owned(cx, "a").await.with_deadline(Duration::from_secs(2));
        cx.clock.advance(10);
        let locked = cx.db.begin().await.unwrap();
        execute(&locked, "SELECT id FROM runtrail_owners FOR UPDATE").await;
        let begun = std::time::Instant::now();
        let runs: Vec<_> = (0..30)
            .map(|number| running(&format!("r-{number}")))
            .collect();
        for answer in join_all(runs.iter().map(|run| store.start_run(run))).await {
            assert_kind(answer, ErrorKind::Timeout);
        }
        assert!(
            begun.elapsed() < Duration::from_secs(6),
            "{:?}",
            begun.elapsed()
        );
        locked.rollback().await.unwrap();
        store.start_run(&running("r-0")).await.unwrap();
    });
}
