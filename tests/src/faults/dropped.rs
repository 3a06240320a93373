use runtrail_audit::{BulkStorage, Storage};
use runtrail_migration::discard_open_transactions;
use runtrail_store::AuditStore;
use sea_orm::{ConnectOptions, Database, TransactionTrait};

use super::ledger::{Entry, OwnLedger};
use super::outside::History;
use super::writer::Writer;
use super::{counts, script};
use crate::fixture::*;

const POLLS: u32 = 30;

on_each_backend! {
    /// Each write of a run is dropped at each poll; none of them is repeated. Beside them, writes that are not.
    async fn a_dropped_write_is_whole_or_absent_and_later_ones_are_kept(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let ledger = OwnLedger::new();
        let rounds = counts::drops();
        let work = async |worker: u64| {
            let writer = Writer { store: &store, ledger: &ledger.ledger };
            let mut dropped = 0;
            for round in (worker..rounds).step_by(8) {
                for polls in 0..=POLLS {
                    let id = format!("{round}-{polls}");
                    let (run, stats) = (script::run(&id), script::stats(&id));
                    store.start_run(&run).await.unwrap();
                    ledger.ledger.write(&[Entry::started(&id)]);
                    let events: Vec<_> = (0..script::EVENTS).map(|sequence| script::event(&id, sequence)).collect();
                    let ended = [
                        poll_some(store.append_log(&events[0]), polls).await,
                        poll_some(store.append_logs(&events[1..]), polls).await,
                        poll_some(store.start_run(&run), polls).await,
                        poll_some(store.finish_run(&id, &stats), polls).await,
                        poll_some(store.start_run(&script::run(&format!("{id}-new"))), polls).await,
                    ];
                    poll_some(store.list_logs_by_run(&id), polls).await;
                    for outcome in &ended {
                        assert!(!matches!(outcome, Some(Err(_))), "{outcome:?}");
                    }
                    dropped += ended.iter().filter(|outcome| outcome.is_none()).count();
                }
                writer.write(&format!("{round}-after")).await;
            }
            dropped
        };
        let dropped: usize = futures_util::future::join_all((0..8).map(work)).await.into_iter().sum();
        assert!(dropped as u64 > rounds, "only {dropped} were dropped");

        // First with the connections still open, on which a transaction might be.
        History::read(&database.url()).assert_keeps(&ledger.entries());
        store.close().await.unwrap();
        let history = History::read(&database.url());
        history.assert_keeps(&ledger.entries());
        eprintln!(
            "{dropped} writes dropped on {:?}: {} acknowledged beside them, 0 lost; {} runs and {} events stored",
            database.backend(), ledger.entries().len(), history.runs.len(), history.events.len()
        );
    }

    /// A dropped write can be repeated at once: it is then there, and there once.
    async fn a_dropped_write_can_be_repeated(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let ledger = OwnLedger::new();
        for polls in 0..=POLLS {
            let id = polls.to_string();
            let (run, stats) = (script::run(&id), script::stats(&id));
            let events: Vec<_> = (0..script::EVENTS).map(|sequence| script::event(&id, sequence)).collect();
            poll_some(store.start_run(&run), polls).await;
            store.start_run(&run).await.unwrap();
            poll_some(store.append_log(&events[0]), polls).await;
            store.append_log(&events[0]).await.unwrap();
            poll_some(store.append_logs(&events[1..]), polls).await;
            store.append_logs(&events[1..]).await.unwrap();
            poll_some(store.finish_run(&id, &stats), polls).await;
            store.finish_run(&id, &stats).await.unwrap();
            ledger.ledger.write(&[Entry::finished(&id), Entry::appended(&id, 0), Entry::appended(&id, 1)]);
        }
        let history = History::read(&database.url());
        history.assert_keeps(&ledger.entries());
        assert_eq!(history.runs.len(), 31);
    }

    async fn a_dropped_purge_completes_when_it_is_repeated(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let db = database.connection().await;
        for number in 0..1_000 {
            let run = finished_at(&number.to_string(), number);
            store.start_run(&run).await.unwrap();
            store.append_log(&event(&run.id, 0)).await.unwrap();
        }
        store.start_run(&finished_at("kept", 5_000)).await.unwrap();
        store.append_log(&event("kept", 0)).await.unwrap();

        let mut seen_half_way = false;
        for polls in (1..).step_by(3) {
            let done = poll_some(store.purge_older_than(at(2_000)), polls).await;
            assert_eq!(count(&db, super::killed::ORPHANS).await, 0);
            let left = count(&db, "skill_runs").await;
            seen_half_way |= left > 1 && left < 1_001;
            if done.is_some() {
                break;
            }
        }
        assert!(seen_half_way, "every batch commits by itself");
        assert_eq!(fetch::<String>(&db, "SELECT id FROM skill_runs").await, ["kept"]);
        assert_eq!(count(&db, "skill_run_logs").await, 1);
    }

    /// On a pool that is made as the README says, and shared with a host whose own transactions are cut off anywhere.
    async fn a_hosts_dropped_transactions_lose_nothing_on_a_pool_made_as_documented(database) {
        let mut options = ConnectOptions::new(database.url());
        options.max_connections(4).sqlx_logging(false);
        options.map_sqlx_sqlite_opts(|sqlite| {
            sqlite.journal_mode(sea_orm::sqlx::sqlite::SqliteJournalMode::Wal)
        });
        discard_open_transactions(&mut options);
        let host = Database::connect(options).await.unwrap();
        let store = AuditStore::new(host.clone());
        store.initialize().await.unwrap();

        let ledger = OwnLedger::new();
        let rounds = counts::begins();
        let work = async |worker: u64| {
            let mut dropped = 0;
            for round in (worker..rounds).step_by(4) {
                for polls in 0..=POLLS {
                    match poll_some(host.begin(), polls).await {
                        // Dropped in the middle, and perhaps while another begins inside of it.
                        Some(txn) => drop(poll_some(txn.unwrap().begin(), polls / 2).await),
                        None => dropped += 1,
                    }
                    let id = format!("{round}-{polls}");
                    store.start_run(&script::run(&id)).await.unwrap();
                    ledger.ledger.write(&[Entry::started(&id)]);
                }
            }
            dropped
        };
        let dropped: u64 = futures_util::future::join_all((0..4).map(work)).await.into_iter().sum();
        assert!(dropped >= rounds, "only {dropped} were dropped");

        History::read(&database.url()).assert_keeps(&ledger.entries());
        host.close().await.unwrap();
        History::read(&database.url()).assert_keeps(&ledger.entries());
        eprintln!(
            "{dropped} begins dropped on {:?}: {} acknowledged beside them, 0 lost",
            database.backend(), ledger.entries().len()
        );
    }
}
