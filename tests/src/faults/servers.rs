use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runtrail_audit::{BulkStorage, ErrorKind, Storage};
use runtrail_store::{AuditStore, Retry};
use runtrail_test_servers::Cluster;
use url::Url;

use super::ledger::{Entry, OwnLedger};
use super::outside::{History, ask, count};
use super::proxy::Proxy;
use super::writer::Writer;
use super::{counts, script};
use crate::fixture::*;

/// How long after a server is back everybody has to be writing again.
const RESUMED: Duration = Duration::from_secs(5);

/// So many tasks that write until they are told to stop, while something else happens.
async fn write_meanwhile<T>(
    store: &AuditStore,
    ledger: &Arc<OwnLedger>,
    tasks: u64,
    meanwhile: impl Future<Output = T>,
) -> T {
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..tasks)
        .map(|task| {
            let (store, ledger, is_over) = (store.clone(), ledger.clone(), is_over.clone());
            tokio::spawn(async move {
                let writer = Writer {
                    store: &store,
                    ledger: &ledger.ledger,
                };
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    writer.write(&format!("{task}-{number}")).await;
                    number += 1;
                }
            })
        })
        .collect();
    let outcome = meanwhile.await;
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    outcome
}

/// How long it takes until something new is acknowledged.
async fn time_to_next_acknowledgement(ledger: &OwnLedger) -> Duration {
    let begun = Instant::now();
    let count = || {
        let entries = ledger.entries().into_iter();
        entries.filter(Entry::is_acknowledgement).count()
    };
    let before = count();
    while count() == before {
        assert!(begun.elapsed() < 4 * RESUMED, "nobody writes any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn a_server_that_crashes_and_ends_connections_loses_nothing() {
    const TERMINATE: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

    block_on(async {
        let mut cluster = Cluster::start(&[]).unwrap();
        let url = cluster.url();
        let store = AuditStore::connect(url.as_str()).await.unwrap();
        store.initialize().await.unwrap();
        let ledger = Arc::new(OwnLedger::new());
        let restarts = counts::restarts();
        let slowest = write_meanwhile(&store, &ledger, 8, async {
            let mut slowest = Duration::ZERO;
            for _ in 0..restarts {
                for _ in 0..3 {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    ask(&url, TERMINATE);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                cluster.crash().unwrap();
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1_500))).await;
                cluster.start_again().unwrap();
                slowest = slowest.max(time_to_next_acknowledgement(&ledger).await);
            }
            slowest
        })
        .await;
        assert!(slowest < RESUMED, "{slowest:?}");

        let entries = ledger.entries();
        for entry in &entries {
            if let Entry::Failed { transient, .. } = entry {
                assert!(transient, "{entry:?}");
            }
        }
        History::read(&url).assert_keeps(&entries);
        let told = entries
            .iter()
            .filter(|entry| !entry.is_acknowledgement())
            .count();
        eprintln!(
            "{restarts} crashes and {} times all connections ended: {} acknowledged, 0 lost; {told} errors told; \
             writing again at the latest {slowest:.1?} after the server was back",
            3 * restarts,
            entries.len() - told,
        );
        store.close().await.unwrap();
    });
}

/// With synchronous replication. The address stays the same, as behind a virtual one or a proxy.
#[test]
fn a_standby_that_takes_over_has_everything() {
    block_on(async {
        let mut primary = Cluster::start(&[]).unwrap();
        let standby = primary.start_standby().unwrap();
        ask(
            &primary.url(),
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
        );
        ask(&primary.url(), "SELECT pg_reload_conf()");
        let is_synchronous = || {
            let states = ask(&primary.url(), "SELECT sync_state FROM pg_stat_replication");
            (states == ["sync"]).then_some(())
        };
        eventually(is_synchronous);

        let proxy = Proxy::to(primary.port()).await;
        let store = AuditStore::connect(proxy.url(&primary.url()))
            .await
            .unwrap();
        store.initialize().await.unwrap();
        let ledger = Arc::new(OwnLedger::new());
        let resumed = write_meanwhile(&store, &ledger, 8, async {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            primary.crash().unwrap();
            proxy.lead_to(standby.port());
            // For a while there is nothing but a standby, which can't be written to.
            tokio::time::sleep(Duration::from_millis(700)).await;
            standby.promote().unwrap();
            let resumed = time_to_next_acknowledgement(&ledger).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            resumed
        })
        .await;
        assert!(resumed < RESUMED, "{resumed:?}");

        let entries = ledger.entries();
        let read_only = format!("{:?}", ErrorKind::ReadOnly);
        let mut has_said_so = false;
        for entry in &entries {
            if let Entry::Failed { kind, transient } = entry {
                has_said_so |= *kind == read_only;
                assert!(*transient || *kind == read_only, "{entry:?}");
            }
        }
        assert!(has_said_so, "a standby is told from a failure");
        History::read(&standby.url()).assert_keeps(&entries);
        eprintln!(
            "a standby took over: {} acknowledged, 0 lost; writing again {resumed:.1?} after its promotion",
            entries
                .iter()
                .filter(|entry| entry.is_acknowledgement())
                .count()
        );
        store.close().await.unwrap();
    });
}

/// The server has committed, and nobody was told.
#[test]
fn a_lost_reply_is_made_good_by_another_try() {
    on_database(Backend::Postgres, async |database| {
        let url = database.url();
        let port = Url::parse(&url).unwrap().port().unwrap();
        let proxy = Proxy::to(port).await;
        let patient = AuditStore::connect(proxy.url(&url)).await.unwrap();
        patient.initialize().await.unwrap();
        let hasty = patient.clone().with_retry(Retry::never());
        let ledger = OwnLedger::new();

        let losses = counts::lost_replies();
        for loss in 0..losses {
            // Each write of a run in turn; with another try of the store's, or of the caller's.
            let is_patient = loss % 8 < 4;
            let store = if is_patient { &patient } else { &hasty };
            let id = format!("{}-{is_patient}", loss / 8);
            let (run, stats) = (script::run(&id), script::stats(&id));
            let events: Vec<_> = (0..script::EVENTS)
                .map(|sequence| script::event(&id, sequence))
                .collect();
            let write = async || match loss % 4 {
                0 => store.start_run(&run).await,
                1 => store.append_log(&events[0]).await,
                2 => store.append_logs(&events[1..]).await,
                _ => store.finish_run(&id, &stats).await,
            };
            let entry = match loss % 4 {
                0 => Entry::started(&id),
                1 => Entry::appended(&id, 0),
                2 => Entry::appended(&id, 1),
                _ => Entry::finished(&id),
            };
            proxy.lose_next_reply();
            if !is_patient {
                let err = write().await.unwrap_err();
                assert!(err.is_transient(), "{err:?}");
            }
            write().await.unwrap();
            ledger.ledger.write(&[entry]);
            assert_eq!(proxy.lost_replies(), loss + 1);
        }
        let history = History::read(&url);
        history.assert_keeps(&ledger.entries());
        assert_eq!(history.runs.len() as u64, losses.div_ceil(4));

        // Nor does a purge stop at one.
        patient.start_run(&running("running")).await.unwrap();
        proxy.lose_next_reply();
        patient.purge_older_than(patient.now()).await.unwrap();
        assert_eq!(count(&url, "skill_runs WHERE id <> 'running'"), 0);
        eprintln!(
            "{losses} replies lost: every retry was Ok, and {} runs are there once",
            history.runs.len()
        );
    });
}
