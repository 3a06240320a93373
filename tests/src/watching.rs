//! Watching a history that others write to: several stores and processes, lost servers, kills.

use std::collections::{HashMap, HashSet};
use std::env;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use runtrail_audit::{
    BulkStorage, Cursor, ErrorKind, LogFilter, Owner, Ownership, Result, RunQuery, SkillRun,
    SkillRunLog, Storage, Watch, WatchStart, Watched,
};
use runtrail_store::AuditStore;
use runtrail_test_servers::Cluster;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::fixture::*;

type Events = BoxStream<'static, Result<Watched<SkillRunLog>>>;

/// Long enough for a stream to find where it starts.
const OPENING: Duration = Duration::from_millis(300);

fn events_of(store: &AuditStore, run_id: &str, start: &WatchStart) -> Events {
    store.watch_logs(run_id, &LogFilter::new(), start)
}

/// Returns the next item. Panics if none comes.
async fn next<T>(stream: &mut BoxStream<'static, Result<Watched<T>>>) -> Watched<T> {
    let next = timeout(PATIENCE, stream.next()).await;
    next.expect("an item arrives").unwrap().unwrap()
}

async fn sequences(events: Events) -> Vec<u64> {
    let all: Vec<_> = timeout(2 * PATIENCE, events.try_collect())
        .await
        .expect("the stream ends")
        .unwrap();
    all.iter().map(|event| event.item.sequence).collect()
}

/// A run that starts now.
fn run_now(store: &AuditStore, id: &str) -> SkillRun {
    SkillRun::new(id, "skill", store.now())
}

/// Polls a stream until it has found where it starts; it must not have an item yet.
async fn open<T: std::fmt::Debug>(stream: &mut BoxStream<'static, Result<Watched<T>>>) {
    let first = timeout(OPENING, stream.next()).await;
    assert!(first.is_err(), "{first:?}");
}

fn p95(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort();
    latencies[latencies.len() * 95 / 100]
}

on_each_backend! {
    async fn events_of_another_store_arrive(database) {
        let store = database.store().await;
        let other = database.store().await;
        other.start_run(&run_now(&other, "r")).await.unwrap();
        let mut events = events_of(&store, "r", &WatchStart::Beginning);
        let mut latencies = Vec::new();
        for sequence in 0..40 {
            other.append_log(&event("r", sequence)).await.unwrap();
            let stored = Instant::now();
            assert_eq!(next(&mut events).await.item.sequence, sequence);
            latencies.push(stored.elapsed());
        }
        let latency = p95(latencies);
        eprintln!("events of another store arrive after {latency:.0?} (p95)");
        assert!(latency < Duration::from_secs(2), "{latency:?}");
        other.finish_run("r", &stats()).await.unwrap();
        assert!(sequences(events).await.is_empty());
        other.close().await.unwrap();
        store.close().await.unwrap();
    }

    async fn events_of_the_same_store_arrive_at_once(database) {
        let store = database.store().await;
        store.start_run(&run_now(&store, "r")).await.unwrap();
        let mut events = events_of(&store, "r", &WatchStart::Beginning);
        let mut latencies = Vec::new();
        for sequence in 0..100 {
            store.append_log(&event("r", sequence)).await.unwrap();
            let stored = Instant::now();
            assert_eq!(next(&mut events).await.item.sequence, sequence);
            latencies.push(stored.elapsed());
        }
        let latency = p95(latencies);
        eprintln!("events of the same store arrive after {latency:.0?} (p95)");
        assert!(latency < Duration::from_millis(500), "{latency:?}");
        drop(events);
        store.close().await.unwrap();
    }

    /// The stream has read the gaps already when the event is stored, but hasn't reached the end.
    async fn an_event_that_fills_a_gap_while_a_stream_opens_arrives(database) {
        let stores = [database.store().await, database.store().await];
        let store = &stores[0];
        store.start_run(&run_now(store, "another")).await.unwrap();
        // The store keeps polling for this stream.
        let mut another = events_of(store, "another", &WatchStart::Beginning);
        open(&mut another).await;
        for (number, writer) in stores.iter().enumerate() {
            let run = format!("r-{number}");
            store.start_run(&run_now(store, &run)).await.unwrap();
            let events = [event(&run, 0), event(&run, 4), event(&run, 8)];
            store.append_logs(&events).await.unwrap();
            let mut events = events_of(store, &run, &WatchStart::Beginning);
            for _ in 0..2 {
                let _ = next(&mut events).await;
            }
            let cursor = next(&mut events).await.cursor;
            writer.append_log(&event(&run, 2)).await.unwrap();
            events = events_of(store, &run, &WatchStart::After(cursor));
            assert_eq!(next(&mut events).await.item.sequence, 2);
            writer.append_log(&event(&run, 6)).await.unwrap();
            // Longer than until the next poll, which must not make the stream miss the event.
            sleep(Duration::from_secs(2)).await;
            assert_eq!(next(&mut events).await.item.sequence, 6);
        }
        drop(another);
        for store in stores {
            store.close().await.unwrap();
        }
    }

    async fn a_stream_from_now_leaves_out_what_is_stored(database) {
        let store = database.store().await;
        store.start_run(&run_now(&store, "r")).await.unwrap();
        store.append_logs(&[event("r", 0), event("r", 1), event("r", 3)]).await.unwrap();
        let mut events = events_of(&store, "r", &WatchStart::Now);
        open(&mut events).await;
        let mut tree = store.watch_tree_logs("r", &LogFilter::new(), &WatchStart::Now);
        open(&mut tree).await;
        let mut runs = store.watch_runs(&RunQuery::new(), &WatchStart::Now);
        open(&mut runs).await;
        // The second event is stored late, but after the streams have begun.
        for sequence in [4, 2, 5] {
            store.append_log(&event("r", sequence)).await.unwrap();
            assert_eq!(next(&mut events).await.item.sequence, sequence);
            assert_eq!(next(&mut tree).await.item.sequence, sequence);
        }
        store.start_run(&run_now(&store, "s").parent("r")).await.unwrap();
        assert_eq!(next(&mut runs).await.item.id, "s");
        store.append_log(&event("s", 0)).await.unwrap();
        assert_eq!(next(&mut tree).await.item.run_id, "s");
        store.finish_run("r", &stats()).await.unwrap();
        assert!(sequences(events).await.is_empty());
        assert_eq!(next(&mut runs).await.item.id, "r");
        store.close().await.unwrap();
    }

    async fn runs_of_another_store_arrive(database) {
        let store = database.store().await;
        let other = database.store().await;
        other.start_run(&run_now(&other, "before")).await.unwrap();
        let mut runs = store.watch_runs(&RunQuery::new(), &WatchStart::Now);
        open(&mut runs).await;
        let mut cursors: Vec<Cursor> = Vec::new();
        for number in 0..5 {
            let id = format!("run-{number}");
            other.start_run(&run_now(&other, &id)).await.unwrap();
            let started = next(&mut runs).await;
            assert_eq!((&started.item.id, started.item.finished_at), (&id, None));
            other.finish_run(&id, &stats()).await.unwrap();
            let finished = next(&mut runs).await;
            assert_eq!(finished.item.id, id);
            assert!(finished.item.finished_at.is_some());
            cursors.extend([started.cursor, finished.cursor]);
        }
        drop(runs);
        // Each cursor continues in another process, without what has been delivered.
        let start = WatchStart::After(cursors[3].clone());
        let mut rest = other.watch_runs(&RunQuery::new(), &start);
        for number in 2..5 {
            let run = next(&mut rest).await.item;
            assert_eq!((run.id, run.finished_at.is_some()), (format!("run-{number}"), true));
        }
        // A run that was running before it was watched.
        store.finish_run("before", &stats()).await.unwrap();
        assert_eq!(next(&mut rest).await.item.id, "before");
        other.close().await.unwrap();
        store.close().await.unwrap();
    }

    async fn a_run_that_was_interrupted_long_ago_is_noticed(database) {
        let store = database.store().await;
        let owner = Owner::new("a dead process").lease(Duration::from_secs(1));
        let dead = database.store().await.with_owner(owner);
        dead.heartbeat().await.unwrap();
        dead.start_run(&run_now(&dead, "r")).await.unwrap();
        dead.close().await.unwrap();
        let mut runs = store.watch_runs(&RunQuery::new(), &WatchStart::Now);
        let mut events = events_of(&store, "r", &WatchStart::Now);
        open(&mut runs).await;
        open(&mut events).await;
        let db = database.connection().await;
        execute(&db, "UPDATE runtrail_owners SET last_seen_at = last_seen_at - 60000000").await;
        let sweeper = database.store().await;
        assert_eq!(sweeper.sweep_interrupted().await.unwrap(), 1);
        let run = next(&mut runs).await.item;
        assert_eq!(run.status.as_str(), "interrupted");
        assert!(sequences(events).await.is_empty());
        sweeper.close().await.unwrap();
        store.close().await.unwrap();
    }

    async fn sixty_four_streams_get_each_event_once_beside_many_writers(database) {
        const RUNS: u64 = 8;
        const EVENTS: u64 = 120;

        let store = database.store().await;
        let other = database.store().await;
        for run in 0..RUNS {
            store.start_run(&run_now(&store, &format!("r-{run}"))).await.unwrap();
        }
        let streams: Vec<_> = (0..64)
            .map(|stream| {
                let events = events_of(
                    [&store, &other][stream as usize % 2],
                    &format!("r-{}", stream / 2 % RUNS),
                    &WatchStart::Beginning,
                );
                tokio::spawn(sequences(events))
            })
            .collect();
        let writers = (0..RUNS).flat_map(|run| (0..4).map(move |writer| (run, writer)));
        let writers = writers.map(|(run, writer)| {
            let store = [&store, &other][writer as usize % 2].clone();
            tokio::spawn(async move {
                for sequence in (writer..EVENTS).step_by(4) {
                    let event = event(&format!("r-{run}"), sequence);
                    store.append_log(&event).await.unwrap();
                }
            })
        });
        for writer in join_all(writers).await {
            writer.unwrap();
        }
        for run in 0..RUNS {
            store.finish_run(&format!("r-{run}"), &stats()).await.unwrap();
        }
        let mut in_order = 0;
        for stream in join_all(streams).await {
            let mut sequences = stream.unwrap();
            in_order += u32::from(sequences.is_sorted());
            sequences.sort();
            assert_eq!(sequences, Vec::from_iter(0..EVENTS));
        }
        eprintln!("{in_order} of 64 streams had every event in order");
        other.close().await.unwrap();
        store.close().await.unwrap();
    }

    async fn events_numbered_by_tens_arrive_in_order_and_soon(database) {
        let store = database.store().await;
        let other = database.store().await;
        store.start_run(&run_now(&store, "r")).await.unwrap();
        let mut events = events_of(&other, "r", &WatchStart::Beginning);
        let all: Vec<_> = (1..=3_000).map(|number| event("r", 10 * number)).collect();
        store.append_logs(&all[..2_000]).await.unwrap();
        let begun = Instant::now();
        for number in 1..=2_000 {
            assert_eq!(next(&mut events).await.item.sequence, 10 * number);
        }
        store.append_logs(&all[2_000..]).await.unwrap();
        let mut last = None;
        for number in 2_001..=3_000 {
            let event = next(&mut events).await;
            assert_eq!(event.item.sequence, 10 * number);
            last = Some(event.cursor);
        }
        let elapsed = begun.elapsed();
        eprintln!("3,000 events numbered by tens arrived within {elapsed:.1?}");
        assert!(elapsed < PATIENCE, "{elapsed:?}");
        let cursor = last.unwrap();
        assert!(cursor.as_str().len() < 2_000, "{cursor}");
        // One of the latest gaps is filled, and one of the first.
        store.append_logs(&[event("r", 15), event("r", 29_985)]).await.unwrap();
        assert_eq!(next(&mut events).await.item.sequence, 29_985);
        store.finish_run("r", &stats()).await.unwrap();
        assert!(sequences(events).await.is_empty());
        let rest = events_of(&store, "r", &WatchStart::After(cursor));
        assert_eq!(sequences(rest).await, [29_985]);
        other.close().await.unwrap();
        store.close().await.unwrap();
    }

    async fn a_stream_that_is_not_polled_misses_nothing(database) {
        let store = database.store().await;
        store.start_run(&run_now(&store, "r")).await.unwrap();
        store.append_log(&event("r", 0)).await.unwrap();
        let mut idle = events_of(&store, "r", &WatchStart::Beginning);
        let mut busy = events_of(&store, "r", &WatchStart::Beginning);
        let _ = next(&mut idle).await;
        let _ = next(&mut busy).await;
        // More than a stream buffers.
        for first in (1..4_000).step_by(500) {
            let batch: Vec<_> = (first..first + 500).map(|it| event("r", it)).collect();
            store.append_logs(&batch).await.unwrap();
            for sequence in first..first + 500 {
                assert_eq!(next(&mut busy).await.item.sequence, sequence);
            }
        }
        store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(sequences(idle).await, Vec::from_iter(1..4_001));
        store.close().await.unwrap();
    }

    async fn nothing_runs_after_the_last_stream_is_dropped(database) {
        let store = database.store().await;
        store.start_run(&run_now(&store, "r")).await.unwrap();
        store.append_log(&event("r", 0)).await.unwrap();
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let mut streams: Vec<_> = (0..50)
            .map(|_| events_of(&store, "r", &WatchStart::Beginning))
            .collect();
        for stream in &mut streams {
            let _ = next(stream).await;
            assert!(timeout(Duration::from_millis(1), stream.next()).await.is_err());
        }
        // The streams share one poll.
        assert_eq!(tasks(), before + 1);
        drop(streams);
        let deadline = Instant::now() + PATIENCE;
        while tasks() > before {
            assert!(Instant::now() < deadline, "{} tasks are left", tasks() - before);
            sleep(Duration::from_millis(10)).await;
        }
        let mut again = events_of(&store, "r", &WatchStart::Beginning);
        let _ = next(&mut again).await;
        store.append_log(&event("r", 1)).await.unwrap();
        let _ = next(&mut again).await;
        store.close().await.unwrap();
    }

    async fn closing_the_store_ends_its_streams_with_an_error(database) {
        let store = database.store().await;
        store.start_run(&run_now(&store, "r")).await.unwrap();
        let filter = LogFilter::new();
        let mut events = events_of(&store, "r", &WatchStart::Beginning);
        let mut tree = store.watch_tree_logs("r", &filter, &WatchStart::Beginning);
        let mut runs = store.watch_runs(&RunQuery::new().skills(["other"]), &WatchStart::Now);
        open(&mut events).await;
        open(&mut tree).await;
        open(&mut runs).await;
        let unopened = events_of(&store, "r", &WatchStart::Beginning);
        store.close().await.unwrap();
        for mut events in [events, tree, unopened] {
            let end = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
            assert!(!assert_kind(end, ErrorKind::Backend).is_transient());
            assert!(events.next().await.is_none());
        }
        let end = timeout(PATIENCE, runs.next()).await.unwrap().unwrap();
        assert!(!assert_kind(end, ErrorKind::Backend).is_transient());
        assert!(runs.next().await.is_none());
    }

    async fn a_stream_continues_on_another_runtime(database) {
        let store = database.store().await;
        store.start_run(&run_now(&store, "r")).await.unwrap();
        store.append_log(&event("r", 0)).await.unwrap();
        let mut events = events_of(&store, "r", &WatchStart::Beginning);
        let other = store.clone();
        // The poll starts on a runtime that ends.
        let poll = tokio::task::spawn_blocking(move || {
            runtime().block_on(async {
                let mut first = events_of(&other, "r", &WatchStart::Beginning);
                let _ = next(&mut first).await;
                assert!(timeout(OPENING, first.next()).await.is_err());
                first
            })
        });
        let mut first = poll.await.unwrap();
        let _ = next(&mut events).await;
        store.append_log(&event("r", 1)).await.unwrap();
        assert_eq!(next(&mut events).await.item.sequence, 1);
        assert_eq!(next(&mut first).await.item.sequence, 1);
        store.close().await.unwrap();
    }

    async fn a_callers_connection_cannot_be_watched(database) {
        use sea_orm::TransactionTrait;

        let store = database.store().await;
        let db = database.connection().await;
        let txn = db.begin().await.unwrap();
        let mut events = store.on(&txn).watch_logs("r", &LogFilter::new(), &WatchStart::Now);
        assert_invalid(events.next().await.unwrap(), "connection");
        txn.rollback().await.unwrap();
        store.close().await.unwrap();
    }

    async fn a_damaged_event_is_an_item_and_the_stream_continues(database) {
        let store = database.store().await;
        store.start_run(&run_now(&store, "r")).await.unwrap();
        store.append_logs(&[event("r", 0), event("r", 1), event("r", 2)]).await.unwrap();
        let db = database.connection().await;
        execute(&db, "UPDATE skill_run_logs SET payload = '{' WHERE sequence = 1").await;
        let mut events = events_of(&store, "r", &WatchStart::Beginning);
        assert_eq!(next(&mut events).await.item.sequence, 0);
        let damaged = events.next().await.unwrap();
        assert_corrupt(damaged, ("skill_run_logs", "r/1", "payload"));
        assert_eq!(next(&mut events).await.item.sequence, 2);
        store.append_log(&event("r", 3)).await.unwrap();
        assert_eq!(next(&mut events).await.item.sequence, 3);
        store.close().await.unwrap();
    }

    async fn every_acknowledged_event_of_a_killed_writer_arrives(database) {
        let store = database.store().await;
        store.start_run(&run_now(&store, "r")).await.unwrap();
        let mut events = events_of(&store, "r", &WatchStart::Beginning);
        let mut command = test_command("watching::child_that_appends");
        command.env(CHILD_URL, database.url()).stdout(Stdio::piped());
        let mut process = Spawned::new(&mut command);
        let lines = process.lines();
        let received = tokio::spawn(async move {
            let mut received = HashSet::new();
            while received.len() < 100 {
                assert!(received.insert(next(&mut events).await.item.sequence));
            }
            (received, events)
        });
        let (mut received, events) = received.await.unwrap();
        process.kill();
        let acknowledged = lines.filter_map(|line| line.parse::<u64>().ok()).last().unwrap();
        store.finish_run("r", &stats()).await.unwrap();
        for sequence in sequences(events).await {
            assert!(received.insert(sequence), "{sequence}");
        }
        let stored = store.list_logs_by_run("r").await.unwrap();
        assert_eq!(received, stored.iter().map(|event| event.sequence).collect());
        assert!(received.contains(&acknowledged));
        store.close().await.unwrap();
    }

    async fn a_tree_is_watched_while_another_store_writes_it(database) {
        let store = database.store().await;
        let other = database.store().await;
        other.start_run(&run_now(&other, "root")).await.unwrap();
        let events = store.watch_tree_logs("root", &LogFilter::new(), &WatchStart::Beginning);
        let collected = tokio::spawn(events.try_collect::<Vec<_>>());
        let mut expected = Vec::new();
        let mut parent = "root".to_owned();
        for number in 0..6 {
            let id = format!("run-{number}");
            other.start_run(&run_now(&other, &id).parent(parent)).await.unwrap();
            for sequence in 0..20 {
                other.append_log(&event(&id, sequence)).await.unwrap();
                expected.push((id.clone(), sequence));
            }
            if number % 2 == 0 {
                other.finish_run(&id, &stats()).await.unwrap();
                sleep(Duration::from_millis(250)).await;
            }
            parent = id;
        }
        for number in [1, 3, 5] {
            other.finish_run(&format!("run-{number}"), &stats()).await.unwrap();
        }
        other.finish_run("root", &stats()).await.unwrap();
        let events = timeout(PATIENCE, collected).await.unwrap().unwrap().unwrap();
        let mut keys = Vec::new();
        for Watched { item, .. } in events {
            keys.push((item.run_id, item.sequence));
        }
        keys.sort();
        assert_eq!(keys, expected);
        other.close().await.unwrap();
        store.close().await.unwrap();
    }
}

/// Appends events to a run that is stored, two at a time and out of order, and prints each sequence
/// once it is acknowledged.
#[test]
#[ignore = "a child process of the case above"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_appends() {
    runtime().block_on(async {
        let store = AuditStore::connect(env::var(CHILD_URL).unwrap())
            .await
            .unwrap();
        println!();
        for sequence in (0..1_000_000).step_by(2) {
            for sequence in [sequence + 1, sequence] {
                store.append_log(&event("r", sequence)).await.unwrap();
                println!("{sequence}");
            }
        }
    });
}

#[test]
fn streams_continue_after_a_server_has_crashed() {
    runtime().block_on(async {
        let mut cluster = Cluster::start(&[]).unwrap();
        let store = AuditStore::connect(cluster.url().as_str()).await.unwrap();
        store.initialize().await.unwrap();
        let other = AuditStore::connect(cluster.url().as_str()).await.unwrap();
        store.start_run(&run_now(&store, "r")).await.unwrap();
        store.append_log(&event("r", 0)).await.unwrap();
        let mut events = events_of(&store, "r", &WatchStart::Beginning);
        let mut runs = store.watch_runs(&RunQuery::new(), &WatchStart::Now);
        let _ = next(&mut events).await;
        open(&mut runs).await;
        for round in 0..2 {
            cluster.crash().unwrap();
            let waiting = timeout(Duration::from_millis(1_500), events.next()).await;
            assert!(waiting.is_err(), "{waiting:?}");
            cluster.start_again().unwrap();
            let (first, second) = (2 * round + 1, 2 * round + 2);
            other.append_log(&event("r", first)).await.unwrap();
            assert_eq!(next(&mut events).await.item.sequence, first);
            store.append_log(&event("r", second)).await.unwrap();
            assert_eq!(next(&mut events).await.item.sequence, second);
            let id = format!("run-{round}");
            other.start_run(&run_now(&other, &id)).await.unwrap();
            assert_eq!(next(&mut runs).await.item.id, id);
        }
        other.close().await.unwrap();
        store.close().await.unwrap();
    });
}

/// What several writers and a reader do in turn.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Stores the next event that a writer has held back.
    Append { writer: usize },
    /// Reads some events.
    Read { events: usize },
    /// Continues on another store, after the last event that was read.
    Resume,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3_usize).prop_map(|writer| Step::Append { writer }),
        3 => (1..4_usize).prop_map(|events| Step::Read { events }),
        1 => Just(Step::Resume),
    ];
    proptest::collection::vec(step, 10..60)
}

/// Whatever the order in which writers store their events, and whenever a reader is resumed, each
/// event arrives once.
fn assert_each_event_arrives_once(backend: Backend) {
    on_database(backend, async |database| {
        let stores = [database.store().await, database.store().await];
        let mut runner = TestRunner::new(random_inputs(12));
        let runs = AtomicU32::new(0);
        let handle = Handle::current();
        runner
            .run(&(steps(), 1..12_u64), |(steps, distance)| {
                let run_id = format!("r-{}", runs.fetch_add(1, Ordering::Relaxed));
                tokio::task::block_in_place(|| {
                    handle.block_on(follow(&stores, &run_id, &steps, distance));
                });
                Ok(())
            })
            .unwrap();
        for store in stores {
            store.close().await.unwrap();
        }
    });
}

/// Writer `n` stores the sequences `n`, `n + 3`, … times the distance.
async fn follow(stores: &[AuditStore; 2], run_id: &str, steps: &[Step], distance: u64) {
    stores[0]
        .start_run(&run_now(&stores[0], run_id))
        .await
        .unwrap();
    let mut next_of: [u64; 3] = [0, 1, 2];
    let (mut stored, mut received) = (HashSet::new(), HashMap::new());
    let mut start = WatchStart::Beginning;
    let mut reader = 0;
    let mut events = events_of(&stores[reader], run_id, &start);
    for step in steps {
        match *step {
            Step::Append { writer } => {
                let sequence = next_of[writer] * distance;
                next_of[writer] += 3;
                let event = event(run_id, sequence);
                stores[writer % 2].append_log(&event).await.unwrap();
                stored.insert(sequence);
            }
            Step::Read { events: limit } => {
                for _ in 0..limit.min(stored.len() - received.len()) {
                    let Watched { item, cursor, .. } = next(&mut events).await;
                    *received.entry(item.sequence).or_insert(0) += 1;
                    start = WatchStart::After(cursor);
                }
            }
            Step::Resume => {
                reader = 1 - reader;
                events = events_of(&stores[reader], run_id, &start);
            }
        }
    }
    stores[0].finish_run(run_id, &stats()).await.unwrap();
    for sequence in sequences(events).await {
        *received.entry(sequence).or_insert(0) += 1;
    }
    assert!(received.values().all(|times| *times == 1), "{received:?}");
    assert_eq!(received.into_keys().collect::<HashSet<_>>(), stored);
}

mod any_order {
    use super::*;

    #[test]
    fn each_event_arrives_once_on_sqlite() {
        assert_each_event_arrives_once(Backend::Sqlite);
    }

    #[test]
    fn each_event_arrives_once_on_postgres() {
        assert_each_event_arrives_once(Backend::Postgres);
    }
}
