use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runtrail_audit::{ErrorKind, Storage};
use runtrail_db::Retry;
use runtrail_store::AuditStore;
use runtrail_test_servers::Cluster;

use super::counts;
use super::ledger::{Entry, Ledger};
use super::proxy::Proxy;
use super::script::{Script, Write};
use super::sql_client::{History, count, end_connections, run_sql};
use super::writer::Writer;
use crate::fixture::*;

/// How soon after a server is back a write has to succeed.
const MAX_RECOVERY: Duration = Duration::from_secs(5);

/// Runs a future while this many tasks write. The tasks have their own threads, since the future
/// may block.
async fn write_during<T>(
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

/// Returns the time until the next write is acknowledged.
async fn time_to_next_acknowledgement(ledger: &Ledger) -> Duration {
    let begun = Instant::now();
    let before = ledger.entries().acknowledged();
    while ledger.entries().acknowledged() == before {
        assert!(
            begun.elapsed() < 4 * MAX_RECOVERY,
            "no write succeeds any more"
        );
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
        let slowest = write_during(&store, &ledger, 8, async {
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
        assert!(slowest < MAX_RECOVERY, "{slowest:?}");

        let entries = ledger.entries();
        entries.assert_failures(Entry::is_transient_failure);
        History::read(&url).assert_stores(&entries);
        eprintln!(
            "{restarts} crashes and {} times all connections ended: {} acknowledged, 0 lost; \
             {} errors reported; the slowest recovery took {slowest:.1?} after the server was back",
            3 * restarts,
            entries.acknowledged(),
            entries.failed(),
        );
        store.close().await.unwrap();
    });
}

/// Starts a server and a synchronous standby.
fn start_replicated() -> (Cluster, Cluster) {
    let mut primary = Cluster::start(&[]).unwrap();
    let standby = primary.start_standby().unwrap();
    let url = primary.url();
    run_sql(&url, "ALTER SYSTEM SET synchronous_standby_names = '*'");
    run_sql(&url, "SELECT pg_reload_conf()");
    eventually(|| {
        let states = run_sql(&url, "SELECT sync_state FROM pg_stat_replication");
        (states == ["sync"]).then_some(())
    });
    (primary, standby)
}

/// The address stays the same, as with a virtual IP address or a proxy.
#[test]
fn a_promoted_standby_has_every_acknowledged_write() {
    runtime().block_on(async {
        let (mut primary, standby) = start_replicated();
        let proxy = Proxy::in_front_of(&primary.url()).await;
        let store = AuditStore::connect(proxy.url()).await.unwrap();
        store.initialize().await.unwrap();
        let ledger = Arc::new(Ledger::temporary());
        let resumed = write_during(&store, &ledger, 8, async {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            primary.crash().unwrap();
            proxy.redirect_to(&standby.url());
            // For a while there is only the standby, which accepts no writes.
            tokio::time::sleep(Duration::from_millis(700)).await;
            standby.promote().unwrap();
            let resumed = time_to_next_acknowledgement(&ledger).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            resumed
        })
        .await;
        assert!(resumed < MAX_RECOVERY, "{resumed:?}");

        let entries = ledger.entries();
        let is_of_standby = |entry: &Entry| entry.is_failure_of(ErrorKind::ReadOnly);
        assert!(
            entries.count(is_of_standby) > 0,
            "no write reached the read-only standby"
        );
        entries.assert_failures(|entry| entry.is_transient_failure() || is_of_standby(entry));
        History::read(&standby.url()).assert_stores(&entries);
        eprintln!(
            "a standby took over: {} acknowledged, 0 lost; writing again {resumed:.1?} after its \
            promotion",
            entries.acknowledged()
        );
        store.close().await.unwrap();
    });
}

/// Connections to a standby are discarded, so calls reach the primary as soon as the address leads
/// there.
#[test]
fn connections_to_a_standby_are_not_reused() {
    runtime().block_on(async {
        let (primary, standby) = start_replicated();
        let proxy = Proxy::in_front_of(&primary.url()).await;
        AuditStore::connect(proxy.url())
            .await
            .unwrap()
            .initialize()
            .await
            .unwrap();
        proxy.redirect_to(&standby.url());
        let store = AuditStore::connect(proxy.url()).await.unwrap();
        eventually(|| {
            (run_sql(&standby.url(), "SELECT to_regclass('skill_runs')") == ["skill_runs"])
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
            assert!(begun.elapsed() < MAX_RECOVERY, "the standby is still asked");
        }
        store.close().await.unwrap();
    });
}

/// The repetition finds the row on the primary, but the row is lost if the primary fails before the
/// standby has it.
#[test]
fn a_repeated_write_is_not_acknowledged_before_a_standby_has_it() {
    runtime().block_on(async {
        let (primary, mut standby) = start_replicated();
        let url = primary.url();
        let store = AuditStore::connect(url.as_str()).await.unwrap();
        store.initialize().await.unwrap();
        let script = Script::for_run("r");
        for write in [Write::Start, Write::AppendLog] {
            script.write(&store, write).await.unwrap();
        }
        standby.crash().unwrap();

        let hasty = store.clone().with_deadline(Duration::from_secs(3));
        let new = Script::for_run("new");
        let writes = [
            (&new, Write::Start),
            (&script, Write::AppendLogs),
            (&script, Write::Finish),
        ];
        for (script, write) in writes {
            let end = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                // Ends the wait for the standby; the server then answers that it has committed
                // locally.
                end_connections(&url);
            };
            let (answer, ()) = tokio::join!(script.write(&hasty, write), end);
            assert_kind(answer, ErrorKind::Timeout);
            assert_kind(script.write(&hasty, write).await, ErrorKind::Timeout);
        }
        standby.start_again().unwrap();
        for (script, write) in writes {
            script.write(&store, write).await.unwrap();
        }
        History::read(&standby.url()).assert_stores(&script.entries(Write::Finish));
        store.close().await.unwrap();
    });
}

/// The server has committed, but its reply is lost.
#[test]
fn a_write_whose_reply_was_lost_can_be_retried() {
    on_database(Backend::Postgres, async |database| {
        let url = database.url();
        let proxy = Proxy::in_front_of(&url).await;
        let patient = AuditStore::connect(proxy.url()).await.unwrap();
        patient.initialize().await.unwrap();
        let hasty = patient.clone().with_retry(Retry::never());
        let ledger = Ledger::temporary();

        // Each write of a run in turn, retried either by the store or by the caller.
        let losses = counts::lost_replies();
        let calls = [true, false]
            .into_iter()
            .cycle()
            .enumerate()
            .flat_map(|(run, is_patient)| Write::ALL.map(|write| (run, is_patient, write)));
        for (loss, (run, is_patient, write)) in (1..=losses).zip(calls) {
            let script = Script::for_run(&run.to_string());
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
        history.assert_stores(&ledger.entries());
        assert_eq!(history.runs.len() as u64, losses.div_ceil(4));
        eprintln!(
            "{losses} replies lost: every retry was Ok, and {} runs are stored once",
            history.runs.len()
        );

        // A purge continues after a lost reply too, but it can't count the runs of that batch.
        patient.start_run(&finished_at("old", 1)).await.unwrap();
        patient.append_log(&event("old", 0)).await.unwrap();
        proxy.lose_next_reply();
        assert!(patient.purge_older_than(at(2)).await.unwrap() <= 1);
        assert_eq!(count(&url, "skill_runs WHERE id = 'old'"), 0);
        assert_eq!(count(&url, "skill_run_logs WHERE run_id = 'old'"), 0);
        assert_eq!(proxy.lost_replies(), losses + 1);
    });
}

/// Looks at the statements of a group commit, which only a store with its own pool makes.
#[test]
fn a_group_commit_is_one_statement_without_a_transaction() {
    use futures_util::future::join_all;

    on_database(Backend::Postgres, async |database| {
        let proxy = Proxy::in_front_of(&database.url()).await;
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
        // The second pass also sends the query for what is already stored.
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
        for number in 0..40 {
            store
                .start_run(&running(&format!("open-{number}")))
                .await
                .unwrap();
        }
        let of_several_kinds = (0..40).map(|number| {
            let (store, stats) = (&store, &stats);
            async move {
                let started = running(&format!("new-{number}"));
                let event = event("r-2", number);
                let finished = format!("open-{number}");
                let (a, b, c) = futures_util::join!(
                    store.start_run(&started),
                    store.append_log(&event),
                    store.finish_run(&finished, stats)
                );
                a.and(b).and(c)
            }
        });
        ok(join_all(of_several_kinds).await);
        let mut statements = proxy.statements();
        statements.sort();
        statements.dedup();
        for statement in &statements {
            let is_of_a_transaction = ["BEGIN", "START", "COMMIT"]
                .iter()
                .any(|word| statement.starts_with(word));
            // The parts of a statement return rows only to be counted.
            let returns_rows = statement.contains("RETURNING") && !statement.starts_with("WITH");
            assert!(!is_of_a_transaction && !returns_rows, "{statement}");
        }
        // How many calls are written alone, and how many with calls of one other kind, depends on
        // timing.
        let parts = ["\"starts\" AS", "\"events\" AS", "\"finishes\" AS"];
        statements.retain(|statement| {
            let parts = parts.iter().filter(|part| statement.contains(**part));
            statement.contains("jsonb_array_elements") && matches!(parts.count(), 0 | 3)
        });
        assert!(
            statements
                .iter()
                .any(|statement| statement.starts_with("WITH"))
        );
        let text: Vec<String> = statements
            .iter()
            .map(|statement| format!("{statement}\n\n"))
            .collect();
        assert_golden_file("queries/together.txt", &text.concat());
    });
}
