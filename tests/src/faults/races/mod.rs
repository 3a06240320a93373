//! Racing calls about one run: starts, restarts, finishes, events, batches and reads, by many tasks
//! and processes.
//!
//! Each round uses a new run. One order of the calls, in which every call takes effect between its
//! beginning and its answer, has to explain all answers. A failure prints the smallest part of the
//! round that no order explains, and the seed: `RUNTRAIL_TEST_SEED=… cargo xtask test races`
//! repeats the calls, but with different timing.

mod checker;
mod history;

use std::collections::BTreeMap;
use std::env;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use runtrail_audit::{
    BulkStorage, Error, RunCreation, RunStats, RunStatus, SkillRun, SkillRunLog, Storage,
};
use runtrail_store::AuditStore;
use rustix::time::{ClockId, clock_gettime};
use sea_orm::{
    ConnectOptions, Database, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use serde_json::json;

use self::history::{Answer, Call, Entry, Event, Run};
use super::counts;
use crate::fixture::*;

/// Calls of one task in a round.
const CALLS: usize = 4;

/// One in this many calls is dropped before it is answered.
const DROPPED: u32 = 8;

/// The environment variable with a child process's number, seed, number of rounds, and the start of
/// the first round.
const PLAN: &str = "RUNTRAIL_TEST_RACE";

/// The duration of a round of processes, which can't wait for each other.
const ROUND: Duration = Duration::from_millis(60);

/// Returns the nanoseconds of a clock that all processes share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

fn seed() -> u64 {
    let seed = env::var("RUNTRAIL_TEST_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("RUNTRAIL_TEST_SEED={seed}");
    seed
}

/// The calls of one task in a round; `number` identifies the task.
fn calls(random: &mut fastrand::Rng, number: u32) -> Vec<Call> {
    let event = |random: &mut fastrand::Rng| Event {
        sequence: random.u64(0..3),
        payload: random.u32(0..2),
    };
    let call = |call: usize| {
        let own = number * CALLS as u32 + call as u32;
        match random.u32(0..16) {
            0..5 => Call::Start {
                start: own,
                outcome: random.bool().then_some(own),
            },
            5 => Call::Create { start: own },
            6..8 => Call::Finish {
                outcome: 1_000 + random.u32(0..2),
            },
            8..10 => Call::Append(event(random)),
            10..12 => {
                // Distinct sequence numbers, since events of one batch must not conflict with each
                // other.
                let payload = random.u32(0..2);
                Call::Batch((0..3).map(|sequence| Event { sequence, payload }).collect())
            }
            12..15 => Call::Read,
            _ => Call::ReadEvents,
        }
    };
    (0..CALLS).map(call).collect()
}

fn run(id: &str, start: u32, outcome: Option<u32>) -> SkillRun {
    with(SkillRun::new(id, "", at(0)), |run| {
        run.skill_id = start.to_string();
        run.finished_at = outcome.map(|_| at(1));
        run.tool_calls = outcome.unwrap_or_default().into();
        run.status = outcome.map_or(RunStatus::RUNNING, |_| RunStatus::OK);
    })
}

fn log(id: &str, Event { sequence, payload }: Event) -> SkillRunLog {
    SkillRunLog::new(id, sequence, "x", json!(payload))
}

async fn perform(store: &AuditStore, id: &str, call: &Call) -> Answer {
    let answer = match call {
        Call::Start { start, outcome } => store.start_run(&run(id, *start, *outcome)).await,
        Call::Create { start } => store.create_run(&run(id, *start, None)).await,
        Call::Finish { outcome } => {
            let stats = RunStats::new(RunStatus::OK).tool_calls((*outcome).into());
            store.finish_run(id, &stats).await
        }
        Call::Append(event) => store.append_log(&log(id, *event)).await,
        Call::Batch(events) => {
            let events: Vec<_> = events.iter().map(|event| log(id, *event)).collect();
            store.append_logs(&events).await
        }
        Call::Read => match store.get_run(id).await {
            Ok(run) => {
                return Answer::Run(Run {
                    start: run.skill_id.parse().unwrap(),
                    outcome: run.finished_at.map(|_| run.tool_calls as u32),
                });
            }
            Err(err) => Err(err),
        },
        Call::ReadEvents => match store.list_logs_by_run(id).await {
            Ok(events) => {
                let number =
                    |event: SkillRunLog| (event.sequence, event.payload.as_u64().unwrap() as u32);
                return Answer::Events(events.into_iter().map(number).collect::<BTreeMap<_, _>>());
            }
            Err(err) => Err(err),
        },
    };
    match answer {
        Ok(()) => Answer::Ok,
        Err(Error::RunFinished { .. }) => Answer::RunFinished,
        Err(Error::RunExists { .. }) => Answer::RunExists,
        Err(Error::NotFound { .. }) => Answer::NotFound,
        Err(Error::Conflict { sequence, .. }) => Answer::Conflict(sequence),
        Err(err) if err.is_transient() => Answer::Unknown,
        Err(err) => panic!("{call:?}: {err:?}"),
    }
}

/// Makes the calls of one task in sequence, and drops some of them before they are answered.
async fn race(store: &AuditStore, task: String, id: &str, number: u32, seed: u64) -> Vec<Entry> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut entries = Vec::new();
    for call in calls(&mut random, number) {
        for _ in 0..random.u32(0..3) {
            tokio::task::yield_now().await;
        }
        let begun = now();
        let answer = match random.u32(0..DROPPED) {
            0 => poll_some(perform(store, id, &call), random.u32(1..6)).await,
            _ => Some(perform(store, id, &call).await),
        };
        entries.push(Entry {
            task: task.clone(),
            call,
            begun,
            answered: now(),
            answer: answer.unwrap_or(Answer::Unknown),
        });
    }
    entries
}

#[track_caller]
fn assert_explained(round: u64, history: &[Entry]) {
    if let Some(smallest) = checker::unexplained(history) {
        for entry in &smallest {
            let Entry {
                task,
                call,
                begun,
                answered,
                answer,
            } = entry;
            eprintln!("{begun} to {answered}, {task}: {call:?} was answered {answer:?}");
        }
        panic!("no order of these calls of round {round} explains their answers");
    }
}

/// Adds reads of the final state to each round, and asserts that one order explains it.
async fn assert_rounds_explained(store: &AuditStore, rounds: BTreeMap<u64, Vec<Entry>>) {
    for (round, mut history) in rounds {
        let id = format!("r-{round}");
        for call in [Call::Read, Call::ReadEvents] {
            let begun = now();
            let answer = perform(store, &id, &call).await;
            history.push(Entry {
                task: "the end".into(),
                call,
                begun,
                answered: now(),
                answer,
            });
        }
        assert_explained(round, &history);
    }
}

/// Opens a host's pool of several connections, set up as in the README.
async fn host(database: &TestDatabase) -> AuditStore {
    let mut options = ConnectOptions::new(database.url());
    options.max_connections(4).sqlx_logging(false);
    runtrail_db::discard_open_transactions(&mut options);
    AuditStore::new(Database::connect(options).await.unwrap())
}

/// Races tasks on these stores. Some rounds begin behind a lock, so that calls queue up for group
/// commits.
async fn race_on(database: &TestDatabase, stores: &[AuditStore]) {
    let db = database.connection().await;
    let mut random = fastrand::Rng::with_seed(seed());
    for round in 0..counts::races() {
        let id = format!("r-{round}");
        let tasks = (0..2).flat_map(|_| stores.iter().enumerate());
        let tasks: Vec<_> = tasks
            .zip(0..)
            .map(|((store, of), number)| {
                let name = format!("task {number} on store {store}");
                race(of, name, &id, number, random.u64(..))
            })
            .collect();
        let is_locked = random.u32(0..4) == 0;
        let lock = async {
            if !is_locked {
                return;
            }
            let immediate = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            };
            let txn = db.begin_with_options(immediate).await.unwrap();
            if database.backend() == Backend::Postgres {
                execute(&txn, "LOCK TABLE skill_runs IN SHARE ROW EXCLUSIVE MODE").await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            txn.commit().await.unwrap();
        };
        let (entries, ()) = futures_util::future::join(join_all(tasks), lock).await;
        assert_rounds_explained(&stores[0], [(round, entries.concat())].into()).await;
    }
    eprintln!("{} rounds on {:?}", counts::races(), database.backend());
}

/// Runs as one of several racing processes, and begins each round at an agreed time.
#[test]
#[ignore = "a child process of the case below"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child_that_races() {
    let plan: Vec<u64> = env::var(PLAN)
        .unwrap()
        .split(' ')
        .map(|part| part.parse().unwrap())
        .collect();
    let [process, seed, rounds, first] = plan[..] else {
        panic!("{plan:?}");
    };
    runtime().block_on(async {
        let store = AuditStore::connect(env::var(CHILD_URL).unwrap())
            .await
            .unwrap();
        store.verify_schema().await.unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        println!();
        for round in 0..rounds {
            let begins = first + round * ROUND.as_nanos() as u64;
            tokio::time::sleep(Duration::from_nanos(begins.saturating_sub(now()))).await;
            let id = format!("r-{round}");
            let tasks = (0..2).map(|task| {
                let name = format!("task {task} of process {process}");
                race(&store, name, &id, process as u32 * 2 + task, random.u64(..))
            });
            let entries = join_all(tasks.collect::<Vec<_>>()).await.concat();
            println!("race {}", json!([round, entries]));
        }
        store.close().await.unwrap();
    });
}

on_each_backend! {
    async fn one_order_explains_all_answers_on_own_stores(database) {
        let stores = [database.store().await, database.store().await];
        race_on(
            database,
            &[stores[0].clone(), stores[0].clone(), stores[1].clone()],
        )
        .await;
    }

    async fn one_order_explains_all_answers_on_pools_of_hosts(database) {
        let own = database.store().await;
        race_on(database, &[own, host(database).await, host(database).await]).await;
    }

    async fn one_order_explains_all_answers_of_several_processes(database) {
        let store = database.store().await;
        let (seed, rounds) = (seed(), counts::races());
        // Time for the processes to start.
        let first = now() + 2_000_000_000;
        let processes: Vec<_> = (0..4)
            .map(|process| {
                let mut command = test_command("faults::races::child_that_races");
                let plan = format!("{process} {} {rounds} {first}", seed.wrapping_add(process));
                command
                    .env(CHILD_URL, database.url())
                    .env(PLAN, plan)
                    .stdout(Stdio::piped());
                Spawned::new(&mut command)
            })
            .collect();
        let mut histories: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        for process in processes {
            let printed = process.wait_for_success();
            for line in printed
                .lines()
                .filter_map(|line| line.strip_prefix("race "))
            {
                let (round, entries): (u64, Vec<Entry>) = serde_json::from_str(line).unwrap();
                histories.entry(round).or_default().extend(entries);
            }
        }
        assert_eq!(histories.len() as u64, rounds);
        assert_rounds_explained(&store, histories).await;
    }
}
