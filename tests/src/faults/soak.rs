use std::collections::HashSet;
use std::env;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use runtrail_audit::{
    Amount, Budget, BudgetPeriod, Budgets, Dimension, Ownership, RunQuery, Statistics,
    StatisticsQuery, Storage,
};
use runtrail_store::AuditStore;

use super::counts;
use super::killed_spenders::spawn_spender;
use super::ledger::{Entries, Entry};
use super::script::{OLDER, Write};
use super::sql_client::{History, assert_no_orphans, is_running, run_sql, settle};
use super::writer::{ACQUIRE_TIMEOUT, Plan};
use crate::fixture::*;

const MINUTE: Duration = Duration::from_secs(60);

const WRITES_PER_SECOND: u64 = 500;

const TASKS: u64 = 25;

/// Each task writes one run in this time.
const PACE: Duration =
    Duration::from_millis(1_000 * TASKS * Write::ALL.len() as u64 / WRITES_PER_SECOND);

const MAX_MEMORY_KIB: u64 = 100 << 10;

const MAX_LOG_BYTES: u64 = 80 << 20;

/// The path of this test binary at an older version. A process of that version then writes to the
/// same database at the same rate.
const OLDER_SUITE: &str = "RUNTRAIL_TEST_OLDER_SUITE";

/// What callers can reserve at the same time during the soak: less than all ask for.
const FREE: u64 = 300;

/// 500 writes a second, a process that reserves and settles, statistics every second, a purge every
/// minute, a kill every five minutes.
async fn soak(database: &TestDatabase) {
    let url = database.url();
    let store = database.store().await;
    let folder = tempfile::tempdir().unwrap();
    let time = Duration::from_secs(counts::soak());
    let begun = Instant::now();
    let mut observed = Observed::default();
    let period = BudgetPeriod::Window(Duration::from_secs(300 * 24 * 60 * 60));
    let budget = |limit| Budget::new("soak", Amount::Tokens(limit), period);
    let mut used = 0;
    while begun.elapsed() < time {
        let prefix = format!("r{}", observed.kills);
        let plan = |prefix: &str| Plan {
            tasks: TASKS,
            pace: PACE,
            acquire_timeout: Some(ACQUIRE_TIMEOUT),
            ..Plan::endless(&url, &folder.path().join(prefix), prefix)
        };
        let mut plans = vec![plan(&prefix)];
        let process = plans[0].spawn();
        let older = env::var_os(OLDER_SUITE).map(|suite| {
            let plan = plan(&format!("{OLDER}-{prefix}"));
            let process = plan.spawn_by(&suite);
            plans.push(plan);
            process
        });
        store.set_budget(&budget(used + FREE)).await.unwrap();
        let mut spender = spawn_spender(&url, &prefix);
        // Kept open until the end: a process can't print to a closed pipe.
        let _printed = spender.lines();
        let spawned = Instant::now();
        let mut purged = 0;
        while spawned.elapsed() < 5 * MINUTE && begun.elapsed() < time {
            let end = Instant::now() + MINUTE.min(time.saturating_sub(begun.elapsed()));
            while Instant::now() < end {
                observed.statistics += ask_statistics(&store).await;
                let status = store.find_budget("soak").await.unwrap().unwrap();
                let taken = status.used + status.reserved;
                assert!(taken <= used + FREE, "{status:?}");
                sleep(Duration::from_secs(1).min(end.saturating_duration_since(Instant::now())));
            }
            observed.update(database, &process);
            purged += store.purge_older_than(store.now()).await.unwrap();
            assert_no_orphans(&url);
        }
        // By then the ledger has every run that was purged.
        sleep(Duration::from_secs(1));
        process.kill();
        spender.kill();
        if let Some(older) = older {
            older.kill();
        }
        settle(&url);
        used = release_reservations(&store).await;
        let ledgers = plans.iter().map(|plan| Entries::read(&plan.ledger));
        let left = observed.check(&url, &Entries::all(ledgers), purged);
        assert_eq!(store.purge_older_than(store.now()).await.unwrap(), left);
    }
    store.close().await.unwrap();
    eprintln!(
        "{} s of soak on {:?}: {} writes acknowledged, 0 lost, {} runs purged meanwhile, {} kills, \
         {} statistics, {used} tokens used and never more than the budget; \
         at most {} MiB of memory, {} MiB of log, {} connections",
        time.as_secs(),
        database.backend(),
        observed.writes,
        observed.purged,
        observed.kills,
        observed.statistics,
        observed.memory >> 10,
        observed.log >> 20,
        observed.connections,
    );
    assert!(
        observed.writes > WRITES_PER_SECOND * time.as_secs() / 2,
        "fewer than half of the intended writes"
    );
}

/// Reads statistics of the runs and calls of the last minute. Returns the number of queries.
async fn ask_statistics(store: &AuditStore) -> u64 {
    let recent = RunQuery::new().started(store.now() - TimeDelta::minutes(1)..);
    let query = StatisticsQuery::of(recent).group_by([Dimension::Skill]);
    store.run_statistics(&query).await.unwrap();
    store.call_statistics(&query).await.unwrap();
    2
}

/// Sweeps until the reservations of the killed process are released. Returns what the budget has
/// used.
async fn release_reservations(store: &AuditStore) -> u64 {
    let since = Instant::now();
    loop {
        store.sweep_interrupted().await.unwrap();
        let status = store.find_budget("soak").await.unwrap().unwrap();
        if status.reserved == 0 {
            return status.used;
        }
        assert!(since.elapsed() < MINUTE, "{status:?}");
        sleep(Duration::from_millis(200));
    }
}

/// Totals and maxima so far.
#[derive(Default)]
struct Observed {
    kills: u64,
    statistics: u64,
    writes: u64,
    purged: u64,
    /// Runs that never finish, since their processes were killed.
    unfinished: HashSet<String>,
    memory: u64,
    log: u64,
    connections: u64,
}

impl Observed {
    fn update(&mut self, database: &TestDatabase, process: &Spawned) {
        self.memory = self.memory.max(peak_memory(process.id()).unwrap());
        assert!(self.memory < MAX_MEMORY_KIB, "{} KiB", self.memory);
        match database.backend() {
            Backend::Sqlite => {
                let log = database.file().with_extension("db-wal");
                self.log = self.log.max(fs::metadata(log).unwrap().len());
                assert!(self.log < MAX_LOG_BYTES, "{} bytes", self.log);
                let open_files = fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
                let open = open_files
                    .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
                    .filter(|file| *file == database.file())
                    .count();
                self.connections = self.connections.max(open as u64);
            }
            Backend::Postgres => {
                let open = "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = current_database() \
                     AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
                let open = run_sql(&database.url(), open)[0].parse().unwrap();
                self.connections = self.connections.max(open);
            }
        }
        // At most: a pool of eight, plus one writer on SQLite, or plus this test's own pool and that
        // of the process that spends on PostgreSQL. A process of an older version has a further
        // pool.
        let most = match env::var_os(OLDER_SUITE) {
            None => 25,
            Some(_) => 34,
        };
        assert!(self.connections <= most, "{}", self.connections);
    }

    /// Checks after a kill that exactly the purged runs are gone. Returns how many finished runs
    /// are left.
    fn check(&mut self, url: &str, entries: &Entries, purged: u64) -> u64 {
        entries.assert_no_failure();
        let history = History::read(url);
        let finished: HashSet<&str> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Finished { id } => Some(id.as_str()),
                _ => None,
            })
            .collect();
        let is_gone = |id: &str| !history.runs.contains_key(id);
        let gone = finished.iter().filter(|id| is_gone(id)).count();
        assert_eq!(gone as u64, purged, "finished runs that are gone");
        let retained: Vec<Entry> = entries
            .iter()
            .filter(|entry| match entry {
                Entry::Started { id } | Entry::Appended { id, .. } | Entry::Finished { id } => {
                    !(finished.contains(id.as_str()) && is_gone(id))
                }
                Entry::Failed { .. } => false,
            })
            .cloned()
            .collect();
        history.assert_stores(&retained);

        let (running, left): (Vec<_>, Vec<_>) =
            history.runs.iter().partition(|(_, row)| is_running(row));
        for id in &self.unfinished {
            assert!(!is_gone(id), "{id}, which was running, is lost");
        }
        self.unfinished
            .extend(running.into_iter().map(|(id, _)| id.clone()));
        self.kills += 1;
        // The first event is one call, all others are one batch.
        let is_call = |entry: &Entry| !matches!(entry, Entry::Appended { sequence: 2.., .. });
        self.writes += entries.count(is_call);
        self.purged += purged;
        left.len() as u64
    }
}

#[test]
#[ignore = "hours: cargo xtask test --faults --long soak"]
fn hours_of_writes_purges_and_kills_lose_nothing_on_sqlite() {
    on_database(Backend::Sqlite, async |database| soak(database).await);
}

#[test]
#[ignore = "hours: cargo xtask test --faults --long soak"]
fn hours_of_writes_purges_and_kills_lose_nothing_on_postgres() {
    on_database(Backend::Postgres, async |database| soak(database).await);
}
