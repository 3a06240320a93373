use std::ops::RangeInclusive;

use runtrail_audit::{Owner, Ownership, RunLabels, Storage};
use runtrail_db::discard_open_transactions;
use runtrail_store::AuditStore;
use sea_orm::{ConnectOptions, Database, TransactionTrait};

use super::counts;
use super::ledger::Ledger;
use super::script::{Script, Write};
use super::sql_client::{History, assert_no_orphans};
use super::writer::Writer;
use crate::fixture::*;

const POLLS: RangeInclusive<u32> = 0..=30;

const WORKERS: usize = 8;

on_each_backend! {
    /// Drops each write of a run at each poll, without a retry, alongside writes that are not
    /// dropped.
    async fn a_dropped_write_is_whole_or_absent_and_later_ones_are_durable(database) {
        let store = database.store().await;
        let ledger = Ledger::temporary();
        let rounds = counts::drops();
        let work = async |worker: usize| {
            let writer = Writer {
                store: &store,
                ledger: &ledger,
            };
            let mut dropped = 0;
            for round in (0..rounds).skip(worker).step_by(WORKERS) {
                for polls in POLLS {
                    let script = Script::for_run(&format!("{round}-{polls}"));
                    script.write(&store, Write::Start).await.unwrap();
                    ledger.write(&script.entries(Write::Start));
                    let new = Script::for_run(&format!("{round}-{polls}-new"));
                    let ended = [
                        poll_some(script.write(&store, Write::AppendLog), polls).await,
                        poll_some(script.write(&store, Write::AppendLogs), polls).await,
                        poll_some(script.write(&store, Write::Start), polls).await,
                        poll_some(script.write(&store, Write::Finish), polls).await,
                        poll_some(new.write(&store, Write::Start), polls).await,
                    ];
                    for outcome in &ended {
                        assert!(!matches!(outcome, Some(Err(_))), "{outcome:?}");
                    }
                    dropped += ended.iter().filter(|outcome| outcome.is_none()).count() as u64;
                    poll_some(store.list_logs_by_run(&script.run.id), polls).await;
                }
                writer.write(&format!("{round}-after")).await;
            }
            dropped
        };
        let dropped: u64 = futures_util::future::join_all((0..WORKERS).map(work))
            .await
            .into_iter()
            .sum();
        assert!(dropped > rounds, "only {dropped} were dropped");

        // Check once before the connections are closed: one of them might have an open transaction.
        History::read(&database.url()).assert_stores(&ledger.entries());
        store.close().await.unwrap();
        let history = History::read(&database.url());
        history.assert_stores(&ledger.entries());
        eprintln!(
            "{dropped} writes dropped on {:?}: {} acknowledged alongside them, 0 lost; {} runs \
            and {} events stored",
            database.backend(),
            ledger.entries().acknowledged(),
            history.runs.len(),
            history.events.len()
        );
    }

    /// A dropped write can be repeated at once, and is then stored exactly once.
    async fn a_dropped_write_can_be_repeated(database) {
        let store = database.store().await;
        let ledger = Ledger::temporary();
        for polls in POLLS {
            let script = Script::for_run(&polls.to_string());
            for write in Write::ALL {
                poll_some(script.write(&store, write), polls).await;
                script.write(&store, write).await.unwrap();
                ledger.write(&script.entries(write));
            }
        }
        let history = History::read(&database.url());
        history.assert_stores(&ledger.entries());
        assert_eq!(history.runs.len(), POLLS.count());
    }

    async fn a_dropped_purge_completes_when_it_is_repeated(database) {
        let store = database.store().await;
        let db = database.connection().await;
        for number in 0..1_000 {
            let run = finished_at(&number.to_string(), number);
            store.start_run(&run).await.unwrap();
            for sequence in 0..3 {
                store.append_log(&event(&run.id, sequence)).await.unwrap();
            }
        }
        store.start_run(&finished_at("kept", 5_000)).await.unwrap();
        store.append_log(&event("kept", 0)).await.unwrap();

        let mut seen_partial = false;
        for polls in (1..).step_by(3) {
            let done = poll_some(store.purge_older_than(at(2_000)), polls).await;
            assert_no_orphans(&database.url());
            // In one statement, since the dropped purge may still be running.
            let surplus =
                "SELECT COUNT(*) - 3 * (SELECT COUNT(*) FROM skill_runs) FROM skill_run_logs";
            assert_eq!(
                fetch::<i64>(&db, surplus).await,
                [1 - 3],
                "only whole runs, and the retained run with its one event"
            );
            let left = count(&db, "skill_runs").await;
            seen_partial |= left > 1 && left < 1_001;
            if done.is_some() {
                break;
            }
        }
        assert!(seen_partial, "every batch commits on its own");
        assert_eq!(
            fetch::<String>(&db, "SELECT id FROM skill_runs").await,
            ["kept"]
        );
        assert_eq!(count(&db, "skill_run_logs").await, 1);
    }

    /// Each run is swept whole, and a dropped heartbeat doesn't prevent the next.
    async fn dropped_heartbeats_and_sweeps_complete_when_they_are_repeated(database) {
        let store = database.store().await;
        let db = database.connection().await;
        let mut swept = 0;
        for polls in POLLS {
            let id = format!("owner-{polls}");
            let owned = store.clone().with_owner(Owner::new("").id(id.as_str()));
            poll_some(owned.heartbeat(), polls).await;
            owned.heartbeat().await.unwrap();
            for number in 0..3 {
                owned.start_run(&running(&format!("{id} {number}"))).await.unwrap();
                let child = child(&format!("{id} below {number}"), &format!("{id} {number}"));
                store.start_run(&child).await.unwrap();
            }
            execute(&db, "UPDATE runtrail_owners SET last_seen_at = 1").await;
            poll_some(store.sweep_interrupted(), polls).await;
            swept += store.sweep_interrupted().await.unwrap();
            let open = "skill_runs WHERE finished_at IS NULL OR status <> 'interrupted'";
            assert_eq!(count(&db, open).await, 0, "{polls} polls");
        }
        assert!(swept > 0, "no sweep was dropped before it was done");
        assert_eq!(count(&db, "skill_runs").await as usize, 6 * POLLS.count());
    }

    async fn dropped_starts_and_additions_of_labels_leave_an_exact_index(database) {
        let store = database.store().await;
        let db = database.connection().await;
        let mut all_or_none = [0; 2];
        for polls in POLLS {
            let run = running(&polls.to_string()).label("env", "prod").label("team", "a");
            poll_some(store.start_run(&run), polls).await;
            store.start_run(&run).await.unwrap();
            let added = running("").label("env", "dev").label("user", "b").labels;
            poll_some(store.add_labels(&run.id, &added), polls).await;
            let stored = store.get_run(&run.id).await.unwrap().labels;
            match stored.len() {
                2 => all_or_none[0] += usize::from(stored == run.labels),
                _ => all_or_none[1] += usize::from(stored["env"] == "dev" && stored.len() == 3),
            }
            store.add_labels(&run.id, &added).await.unwrap();
        }
        assert_eq!(all_or_none[0] + all_or_none[1], POLLS.count());
        assert!(all_or_none[1] > 0, "each addition was dropped before it was done");
        for (label, runs) in [("dev", POLLS.count()), ("prod", 0), ("a", POLLS.count())] {
            let indexed = format!("runtrail_run_labels WHERE value = '{label}'");
            assert_eq!(count(&db, &indexed).await as usize, runs, "{label}");
        }
        assert_eq!(count(&db, "runtrail_run_labels").await as usize, 3 * POLLS.count());
    }

    /// On a pool that is set up as in the README, and shared with a host whose own transactions are
    /// dropped anywhere.
    async fn a_hosts_dropped_transactions_lose_nothing_on_a_pool_set_up_as_documented(database) {
        let mut options = ConnectOptions::new(database.url());
        options.max_connections(4).sqlx_logging(false);
        options.map_sqlx_sqlite_opts(|sqlite| {
            sqlite.journal_mode(sea_orm::sqlx::sqlite::SqliteJournalMode::Wal)
        });
        discard_open_transactions(&mut options);
        let host = Database::connect(options).await.unwrap();
        let store = AuditStore::new(host.clone());
        store.initialize().await.unwrap();

        let ledger = Ledger::temporary();
        let rounds = counts::begins();
        let work = async |worker: usize| {
            let mut dropped = 0;
            for round in (0..rounds).skip(worker).step_by(WORKERS) {
                for polls in POLLS {
                    match poll_some(host.begin(), polls).await {
                        // Dropped while open, and in some cases while a nested transaction begins.
                        Some(txn) => drop(poll_some(txn.unwrap().begin(), polls / 2).await),
                        None => dropped += 1,
                    }
                    let script = Script::for_run(&format!("{round}-{polls}"));
                    script.write(&store, Write::Start).await.unwrap();
                    ledger.write(&script.entries(Write::Start));
                }
            }
            dropped
        };
        let dropped: u64 = futures_util::future::join_all((0..WORKERS).map(work))
            .await
            .into_iter()
            .sum();
        assert!(dropped >= rounds, "only {dropped} were dropped");

        History::read(&database.url()).assert_stores(&ledger.entries());
        host.close().await.unwrap();
        History::read(&database.url()).assert_stores(&ledger.entries());
        eprintln!(
            "{dropped} begins dropped on {:?}: {} acknowledged alongside them, 0 lost",
            database.backend(),
            ledger.entries().acknowledged()
        );
    }
}
