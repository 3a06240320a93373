use std::env;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runtrail_audit::{RunStatus, Staging, Storage};
use runtrail_otlp::{Receiver, ReceiverOptions, RouterOptions, router};
use runtrail_store::AuditStore;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::counts;
use super::writer::store_for_many_tasks;
use crate::fixture::*;
use crate::telemetry::exporter::{Span, post, run_id, span_id, traces};

/// How many senders send at the same time.
const SENDERS: u128 = 4;

/// Receives until it is killed. Prints its address.
#[test]
#[ignore = "a child process of the case below"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_receives() {
    runtime().block_on(async {
        let store = AuditStore::connect(env::var(CHILD_URL).unwrap())
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Receiver::new(Arc::new(store), ReceiverOptions::new());
        println!("\nlistening on http://{address}");
        let routes = router(Arc::new(receiver), RouterOptions::default());
        axum::serve(listener, routes).await.unwrap();
    });
}

/// The batches of a trace, as spans end: two agents with calls, of which two end in the same
/// microsecond.
fn batches() -> [Vec<Span>; 5] {
    [
        vec![Span::chat(3, 10).below(2).during(1_100, 3_000)],
        vec![Span::tool(4, "x").below(2).during(1_000, 3_000)],
        vec![
            Span::chat(7, 5).below(6).during(3_300, 3_700),
            Span::agent(6, "inner").below(5).during(3_200, 3_800),
        ],
        vec![
            Span::tool(5, "delegate").below(2).during(3_100, 4_000),
            Span::new(8, "step").below(2).during(5_000, 6_000),
        ],
        vec![
            Span::agent(2, "outer").below(1).during(1_000, 8_000),
            Span::new(1, "request"),
        ],
    ]
}

/// The runs of a trace, with the runs above them.
const RUNS: [(u64, Option<u64>); 3] = [(1, None), (2, Some(1)), (6, Some(2))];

/// The events of a trace as the span of each and the span of its run, sorted.
const EVENTS: [(u64, u64); 5] = [(3, 2), (4, 2), (5, 2), (7, 6), (8, 2)];

/// The id of a trace. Those of the same sender are numbered.
fn trace_id(sender: u128, number: u128) -> u128 {
    1_000_000 * (sender + 1) + number
}

/// Whether the spans above others may arrive before them. The totals of their runs then lack what
/// arrives after the runs have ended.
fn is_shuffled(number: u128) -> bool {
    number % 4 == 3
}

/// Sends traces until it is over, and repeats each batch until it is acknowledged. Returns the
/// number of traces, and of the requests that had to be repeated.
async fn keep_sending(
    sender: u128,
    mut url: watch::Receiver<String>,
    is_over: &AtomicBool,
) -> (u128, u64) {
    url.wait_for(|url| !url.is_empty()).await.unwrap();
    let (mut sent, mut repeated) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let mut batches = batches();
        if is_shuffled(sent) {
            fastrand::shuffle(&mut batches);
        }
        for batch in &batches {
            let request = traces(trace_id(sender, sent), batch);
            let give_up = Instant::now() + Duration::from_secs(180);
            loop {
                let url = format!("{}/v1/traces", *url.borrow());
                match post(&url, &request).await {
                    Ok(answer) if answer.status == 200 => break,
                    Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                    // The receiver has been killed.
                    Err(_) => {}
                }
                assert!(Instant::now() < give_up, "a batch is never acknowledged");
                repeated += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        sent += 1;
    }
    (sent, repeated)
}

/// Checks that each span of a trace is stored once, and returns the number of runs and events.
async fn assert_is_stored_once(store: &AuditStore, trace: u128, number: u128) -> [usize; 2] {
    let mut stored = Vec::new();
    for (span, parent) in RUNS {
        let run = store.get_run(&run_id(trace, span)).await.unwrap();
        assert_eq!(run.status, RunStatus::OK, "{run:?}");
        let parent = parent.map(|parent| run_id(trace, parent));
        assert_eq!(run.parent_run_id, parent, "{run:?}");
        for event in store.list_logs_by_run(&run.id).await.unwrap() {
            stored.push((event.payload["span_id"].as_str().unwrap().to_owned(), span));
        }
        let totals = (run.total_input_tokens, run.tool_calls);
        let expected = match span {
            1 => (0, 0),
            2 => (10, 2),
            _ => (5, 0),
        };
        assert!(is_shuffled(number) || totals == expected, "{run:?}");
    }
    stored.sort_unstable();
    assert_eq!(
        stored,
        EVENTS.map(|(span, run)| (span_id(span), run)),
        "trace {trace}"
    );
    [RUNS.len(), stored.len()]
}

on_each_backend! {
    /// Every span that was acknowledged is stored exactly once, as a run or an event.
    async fn spans_that_were_acknowledged_survive_kills_of_the_receiver(database) {
        let store = &store_for_many_tasks(database).await;
        let (url, urls) = watch::channel(String::new());
        let is_over = &AtomicBool::new(false);
        let start = async || {
            let mut command = test_command("faults::killed_receivers::child_that_receives");
            command.env(CHILD_URL, database.url()).stdout(Stdio::piped());
            let mut process = Spawned::new(&mut command);
            let mut lines = process.lines();
            let listening = spawn_blocking(move || {
                let is_address = |line: String| line.strip_prefix("listening on ").map(str::to_owned);
                lines.find_map(is_address).unwrap()
            });
            url.send_replace(listening.await.unwrap());
            process
        };
        let kill_receivers = async {
            for _ in 0..counts::killed_receivers() {
                let process = start().await;
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1_500))).await;
                process.kill();
            }
            let last = start().await;
            is_over.store(true, Ordering::Relaxed);
            last
        };
        let senders = (0..SENDERS).map(|sender| keep_sending(sender, urls.clone(), is_over));
        let (last, sent) = tokio::join!(kill_receivers, futures_util::future::join_all(senders));
        let give_up = Instant::now() + Duration::from_secs(180);
        while !store.waiting_groups("", 1).await.unwrap().is_empty() {
            assert!(Instant::now() < give_up, "acknowledged spans are never stored");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        last.kill();

        let mut stored = [0, 0];
        for (sender, (traces, _)) in (0..).zip(&sent) {
            for number in 0..*traces {
                let trace = trace_id(sender, number);
                let [runs, events] = assert_is_stored_once(store, trace, number).await;
                stored = [stored[0] + runs, stored[1] + events];
            }
        }
        let db = database.connection().await;
        let rows = [count(&db, "skill_runs").await, count(&db, "skill_run_logs").await];
        assert_eq!(rows.map(|rows| usize::try_from(rows).unwrap()), stored);
        let repeated: u64 = sent.iter().map(|(_, repeated)| repeated).sum();
        eprintln!(
            "{} kills of a receiver on {:?}: {} spans acknowledged, {repeated} requests repeated, \
            0 spans lost, 0 stored twice",
            counts::killed_receivers(),
            database.backend(),
            stored[0] + stored[1],
        );
        assert!(stored[0] > 0, "no trace was sent");
    }
}
