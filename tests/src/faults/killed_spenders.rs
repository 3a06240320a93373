use std::env;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use runtrail_audit::{
    Amount, Budget, BudgetPeriod, BudgetScope, Budgets, Error, Owner, Ownership,
    ReservationRequest, Spending, new_run_id,
};
use runtrail_store::AuditStore;
use tokio::task::spawn_blocking;

use super::counts;
use super::sql_client::run_sql;
use super::writer::store_for_many_tasks;
use crate::fixture::*;

/// The variable that holds the id of a child's owner.
const OWNER: &str = "RUNTRAIL_TEST_OWNER";

/// Long enough for a process that waits for its turn on a busy machine.
const LEASE: Duration = Duration::from_secs(5);

/// How many processes spend at the same time.
const SPENDERS: u64 = 2;

/// How many callers each of them has.
const CALLERS: u64 = 64;

/// What can be reserved at the same time: less than all callers ask for.
const FREE: u64 = 300;

/// Reserves and settles until it is killed. Prints a line when the first reservation is settled.
#[test]
#[ignore = "a child process of the case below"]
fn child_that_spends() {
    runtime().block_on(async {
        let owner = Owner::new("child")
            .id(env::var(OWNER).unwrap())
            .lease(LEASE);
        let store = AuditStore::connect(env::var(CHILD_URL).unwrap())
            .await
            .unwrap()
            .with_owner(owner);
        let heartbeats = async {
            loop {
                store.heartbeat().await.unwrap();
                tokio::time::sleep(LEASE / 4).await;
            }
        };
        let callers = (0..CALLERS).map(|caller| keep_spending(&store, caller));
        tokio::join!(heartbeats, join_all(callers));
    });
}

/// Spawns a process that reserves and settles as this owner.
pub(super) fn spawn_spender(url: &str, owner: &str) -> Spawned {
    let mut command = test_command("faults::killed_spenders::child_that_spends");
    command
        .env(CHILD_URL, url)
        .env(OWNER, owner)
        .stdout(Stdio::piped());
    Spawned::new(&mut command)
}

/// Reserves and settles for one caller.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn keep_spending(store: &AuditStore, caller: u64) {
    loop {
        let amount = fastrand::u64(1..10);
        let request = ReservationRequest::new(new_run_id(), Spending::new().tokens(amount))
            .caller(format!("caller {}", caller % 2));
        match store.reserve(&request).await {
            Ok(()) => {}
            Err(Error::OverBudget { .. }) => {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..5))).await;
                continue;
            }
            Err(err) => panic!("{err}"),
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..5))).await;
        let is_used = fastrand::u64(0..50) == 0;
        let actual = Spending::new().tokens(if is_used { 1 } else { 0 });
        store
            .settle_reservation(&request.id, &actual)
            .await
            .unwrap();
        if caller == 0 {
            println!("\nsettled");
        }
    }
}

/// Sweeps until it is stopped.
async fn keep_sweeping(database: &TestDatabase, is_over: &AtomicBool) {
    let store = store_for_many_tasks(database).await;
    while !is_over.load(Ordering::Relaxed) {
        store.sweep_interrupted().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Checks until it is stopped that no more is used and reserved than the limit, and returns how
/// often.
pub(super) async fn keep_checking(
    database: &TestDatabase,
    limit: &AtomicU64,
    is_over: &AtomicBool,
) -> (u64, u64) {
    let db = database.connection().await;
    let (mut checks, mut most) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let taken = "SELECT used + reserved FROM runtrail_budget_usage WHERE budget = 'all'";
        let taken: u64 = fetch::<i64>(&db, taken)
            .await
            .into_iter()
            .map(i64::unsigned_abs)
            .sum();
        // The limit only grows.
        let limit = limit.load(Ordering::Relaxed);
        assert!(taken <= limit, "{taken} of {limit}");
        most = most.max(taken);
        checks += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (checks, most)
}

pub(super) fn budget(name: &str, limit: u64) -> Budget {
    // The slots are long, so that a check usually reads a single row.
    let period = BudgetPeriod::Window(Duration::from_secs(300 * 24 * 60 * 60));
    Budget::new(name, Amount::Tokens(limit), period)
}

on_each_backend! {
    /// Killed callers never make a budget exceed its limit, and a sweep releases what they held.
    async fn reservations_of_killed_callers_never_exceed_a_budget_and_are_released(database) {
        let store = &store_for_many_tasks(database).await;
        let url = &database.url();
        let limit = &AtomicU64::new(FREE);
        store.set_budget(&budget("all", FREE)).await.unwrap();
        for caller in ["caller 0", "caller 1"] {
            let scope = BudgetScope::Caller(caller.into());
            let of_caller = budget(caller, 1_000_000_000).scope(scope);
            store.set_budget(&of_caller).await.unwrap();
        }
        let is_over = AtomicBool::new(false);
        let kill_spenders = async {
            for round in 0..counts::killed_spenders().div_ceil(SPENDERS) {
                let mut spenders = Vec::new();
                for number in 0..SPENDERS {
                    spenders.push(spawn_spender(url, &format!("owner-{round}-{number}")));
                }
                // Kept open until the end: a process can't print to a closed pipe.
                let mut printed = Vec::new();
                for process in &mut spenders {
                    let mut lines = process.lines();
                    let settled = move || (lines.any(|line| line == "settled"), lines);
                    let (has_settled, rest) = spawn_blocking(settled).await.unwrap();
                    assert!(has_settled, "a caller has settled nothing");
                    printed.push(rest);
                }
                for process in spenders {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
                    process.kill();
                }
                tokio::time::sleep(LEASE + Duration::from_millis(200)).await;
                store.sweep_interrupted().await.unwrap();
                for status in store.list_budgets().await.unwrap() {
                    assert_eq!(status.reserved, 0, "{status:?}");
                }
                let used = store.find_budget("all").await.unwrap().unwrap().used;
                limit.store(used + FREE, Ordering::Relaxed);
                store.set_budget(&budget("all", used + FREE)).await.unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        };
        let checks = keep_checking(database, limit, &is_over);
        let sweeps = join_all((0..2).map(|_| keep_sweeping(database, &is_over)));
        let ((), (checks, most), _) = tokio::join!(kill_spenders, checks, sweeps);

        // What is counted is what the stored reservations have used.
        let number = |sql: &str| run_sql(url, sql)[0].parse::<u64>().unwrap();
        let sum = |column: &str, table: &str| {
            number(&format!("SELECT COALESCE(SUM({column}), 0) FROM runtrail_budget_{table}"))
        };
        let used = sum("actual_tokens", "reservations");
        let open = "SELECT COUNT(*) FROM runtrail_budget_reservations WHERE closed_at IS NULL";
        assert_eq!(number(open), 0);
        assert_eq!(sum("amount", "charges"), 0);
        assert_eq!(store.find_budget("all").await.unwrap().unwrap().used, used);
        assert_eq!(sum("used", "usage WHERE budget <> 'all'"), used);
        let released = "SELECT COUNT(*) FROM runtrail_budget_reservations \
            WHERE actual_tokens IS NULL";
        let released = number(released);
        assert!(released > 0, "no killed process had an open reservation");
        eprintln!(
            "{} spenders killed on {:?}: {} reservations, {released} released by sweeps, \
            {used} tokens used, {checks} checks, at most {most} taken, 0 over the limit",
            counts::killed_spenders(),
            database.backend(),
            number("SELECT COUNT(*) FROM runtrail_budget_reservations"),
        );
    }
}
