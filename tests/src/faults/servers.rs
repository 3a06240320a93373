use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runtrail_audit::{ErrorKind, Storage};
use runtrail_db::Retry;
use runtrail_store::AuditStore;
use runtrail_test_servers::Cluster;

use super::counts;
use super::ledger::{Entry, Ledger};
use super::outside::{History, ask, count, end_connections};
use super::proxy::Proxy;
use super::script::{Script, Write};
use super::writer::Writer;
use crate::fixture::*;

/// How long after a server is back everybody has to be writing again.
const RESUMED: Duration = Duration::from_secs(5);

/// So many tasks that write until they are told to stop, while something else happens: on threads of their own, since
/// what happens may block.
async fn write_meanwhile<T>(
    store: &AuditStore,
    ledger: &Arc<Ledger>,
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
                    ledger: &ledger,
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
async fn time_to_next_acknowledgement(ledger: &Ledger) -> Duration {
    let begun = Instant::now();
    let before = ledger.entries().acknowledged();
    while ledger.entries().acknowledged() == before {
        assert!(begun.elapsed() < 4 * RESUMED, "nobody writes any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

#[test]
fn a_server_that_crashes_and_ends_connections_loses_nothing() {
    runtime().block_on(async {
        let mut cluster = Cluster::start(&[]).unwrap();
        let url = cluster.url();
        let store = AuditStore::connect(url.as_str()).await.unwrap();
        store.initialize().await.unwrap();
        let ledger = Arc::new(Ledger::temporary());
        let restarts = counts::restarts();
        let slowest = write_meanwhile(&store, &ledger, 8, async {
            let mut slowest = Duration::ZERO;
            for _ in 0..restarts {
                for _ in 0..3 {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    end_connections(&url);
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
        entries.assert_failures(Entry::is_transient_failure);
        History::read(&url).assert_keeps(&entries);
        eprintln!(
            "{restarts} crashes and {} times all connections ended: {} acknowledged, 0 lost; {} errors told; \
             writing again at the latest {slowest:.1?} after the server was back",
            3 * restarts,
            entries.acknowledged(),
            entries.failed(),
        );
        store.close().await.unwrap();
    });
}

/// A server, and a standby that has everything before it is acknowledged.
fn start_replicated() -> (Cluster, Cluster) {
    let mut primary = Cluster::start(&[]).unwrap();
    let standby = primary.start_standby().unwrap();
    let url = primary.url();
    ask(&url, "ALTER SYSTEM SET synchronous_standby_names = '*'");
    ask(&url, "SELECT pg_reload_conf()");
    eventually(|| {
        let states = ask(&url, "SELECT sync_state FROM pg_stat_replication");
        (states == ["sync"]).then_some(())
    });
    (primary, standby)
}

/// The address stays the same, as behind a virtual one or a proxy.
#[test]
fn a_standby_that_takes_over_has_everything() {
    runtime().block_on(async {
        let (mut primary, standby) = start_replicated();
        let proxy = Proxy::before(&primary.url()).await;
        let store = AuditStore::connect(proxy.url()).await.unwrap();
        store.initialize().await.unwrap();
        let ledger = Arc::new(Ledger::temporary());
        let resumed = write_meanwhile(&store, &ledger, 8, async {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            primary.crash().unwrap();
            proxy.redirect_to(&standby.url());
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
        let is_of_standby = |entry: &Entry| entry.is_failure_of(ErrorKind::ReadOnly);
        assert!(entries.count(is_of_standby) > 0, "a standby is told from a failure");
        entries.assert_failures(|entry| entry.is_transient_failure() || is_of_standby(entry));
        History::read(&standby.url()).assert_keeps(&entries);
        eprintln!(
            "a standby took over: {} acknowledged, 0 lost; writing again {resumed:.1?} after its promotion",
            entries.acknowledged()
        );
        store.close().await.unwrap();
    });
}

/// A connection to a server that is a standby and stays one goes, as soon as the address leads elsewhere.
#[test]
fn connections_to_a_standby_are_not_kept() {
    runtime().block_on(async {
        let (primary, standby) = start_replicated();
        let proxy = Proxy::before(&primary.url()).await;
        AuditStore::connect(proxy.url())
            .await
            .unwrap()
            .initialize()
            .await
            .unwrap();
        proxy.redirect_to(&standby.url());
        let store = AuditStore::connect(proxy.url()).await.unwrap();
        eventually(|| {
            (ask(&standby.url(), "SELECT to_regclass('skill_runs')") == ["skill_runs"])
                .then_some(())
        });
        let read = || store.list_runs_by_skill("skill", None);
        for read in futures_util::future::join_all((0..8).map(|_| read())).await {
            assert!(read.unwrap().is_empty());
        }
        assert_kind(store.start_run(&running("r")).await, ErrorKind::ReadOnly);

        proxy.redirect_to(&primary.url());
        let begun = Instant::now();
        while let Err(err) = store.start_run(&running("r")).await {
            assert_eq!(err.kind(), ErrorKind::ReadOnly);
            assert!(begun.elapsed() < RESUMED, "the standby is still asked");
        }
        store.close().await.unwrap();
    });
}

/// It is in the primary, where the repetition finds it, but a primary that is lost now takes it along.
#[test]
fn a_write_that_no_standby_has_is_not_acknowledged_by_its_repetition() {
    runtime().block_on(async {
        let (primary, mut standby) = start_replicated();
        let url = primary.url();
        let store = AuditStore::connect(url.as_str()).await.unwrap();
        store.initialize().await.unwrap();
        let script = Script::of("r");
        for write in [Write::Start, Write::AppendLog] {
            script.write(&store, write).await.unwrap();
        }
        standby.crash().unwrap();

        let hasty = store.clone().with_deadline(Duration::from_secs(3));
        let new = Script::of("new");
        let writes = [
            (&new, Write::Start),
            (&script, Write::AppendLogs),
            (&script, Write::Finish),
        ];
        for (script, write) in writes {
            let end = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                // Whoever waits for the standby: the server then says that it has committed all the same.
                end_connections(&url);
            };
            let (told, ()) = tokio::join!(script.write(&hasty, write), end);
            assert_kind(told, ErrorKind::Timeout);
            assert_kind(script.write(&hasty, write).await, ErrorKind::Timeout);
        }
        standby.start_again().unwrap();
        for (script, write) in writes {
            script.write(&store, write).await.unwrap();
        }
        History::read(&standby.url()).assert_keeps(&script.entries(Write::Finish));
        store.close().await.unwrap();
    });
}

/// The server has committed, and nobody was told.
#[test]
fn a_lost_reply_is_made_good_by_another_try() {
    on_database(Backend::Postgres, async |database| {
        let url = database.url();
        let proxy = Proxy::before(&url).await;
        let patient = AuditStore::connect(proxy.url()).await.unwrap();
        patient.initialize().await.unwrap();
        let hasty = patient.clone().with_retry(Retry::never());
        let ledger = Ledger::temporary();

        // Each write of a run in turn; with another try of the store's, or of the caller's.
        let losses = counts::lost_replies();
        let calls = [true, false]
            .into_iter()
            .cycle()
            .enumerate()
            .flat_map(|(run, is_patient)| Write::ALL.map(|write| (run, is_patient, write)));
        for (loss, (run, is_patient, write)) in (1..=losses).zip(calls) {
            let script = Script::of(&run.to_string());
            let store = if is_patient { &patient } else { &hasty };
            proxy.lose_next_reply();
            if !is_patient {
                let err = script.write(store, write).await.unwrap_err();
                assert!(err.is_transient(), "{err:?}");
            }
            script.write(store, write).await.unwrap();
            ledger.write(&script.entries(write));
            assert_eq!(proxy.lost_replies(), loss);
        }
        let history = History::read(&url);
        history.assert_keeps(&ledger.entries());
        assert_eq!(history.runs.len() as u64, losses.div_ceil(4));
        eprintln!(
            "{losses} replies lost: every retry was Ok, and {} runs are there once",
            history.runs.len()
        );

        // A purge doesn't stop at one either, but it can't count runs whose deletion got no reply.
        patient.start_run(&finished_at("old", 1)).await.unwrap();
        patient.append_log(&event("old", 0)).await.unwrap();
        proxy.lose_next_reply();
        assert!(patient.purge_older_than(at(2)).await.unwrap() <= 1);
        assert_eq!(count(&url, "skill_runs WHERE id = 'old'"), 0);
        assert_eq!(count(&url, "skill_run_logs WHERE run_id = 'old'"), 0);
        assert_eq!(proxy.lost_replies(), losses + 1);
    });
}

/// What a store of its own sends for many calls, which no connection of a host's would see.
#[test]
fn what_is_written_together_is_one_statement_without_returning() {
    use futures_util::future::join_all;

    on_database(Backend::Postgres, async |database| {
        let proxy = Proxy::before(&database.url()).await;
        let store = AuditStore::connect(proxy.url()).await.unwrap();
        store.initialize().await.unwrap();
        let runs: Vec<_> = (0..40)
            .map(|number| running(&format!("r-{number}")))
            .collect();
        let events: Vec<_> = (0..40).map(|number| event("r-1", number)).collect();
        let others: Vec<_> = runs
            .iter()
            .map(|run| with(run.clone(), |run| run.skill_id = "other".into()))
            .collect();
        let stats = stats();
        proxy.statements();
        let ok =
            |answers: Vec<runtrail_audit::Result<()>>| answers.into_iter().for_each(Result::unwrap);
        // The second time of each asks which are there.
        for _ in 0..2 {
            ok(join_all(runs.iter().map(|run| store.start_run(run))).await);
            ok(join_all(events.iter().map(|event| store.append_log(event))).await);
        }
        for _ in 0..2 {
            ok(join_all(runs.iter().map(|run| store.finish_run(&run.id, &stats))).await);
        }
        for answer in join_all(others.iter().map(|run| store.start_run(run))).await {
            assert_kind(answer, ErrorKind::RunFinished);
        }
        let mut statements = proxy.statements();
        statements.sort();
        statements.dedup();
        for statement in &statements {
            let is_of_a_transaction = ["BEGIN", "START", "COMMIT"]
                .iter()
                .any(|word| statement.starts_with(word));
            assert!(
                !is_of_a_transaction && !statement.contains("RETURNING"),
                "{statement}"
            );
        }
        // Those of single calls come and go with how the calls fall together.
        statements.retain(|statement| statement.contains("jsonb_array_elements"));
        let text: Vec<String> = statements
            .iter()
            .map(|statement| format!("{statement}\n\n"))
            .collect();
        assert_golden_file("queries/together.txt", &text.concat());
    });
}
