use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use runtrail_audit::{Budgets, Error, ReservationRequest, Spending, new_run_id};
use runtrail_store::AuditStore;

use super::counts;
use super::killed_spenders::{budget, keep_checking};
use super::writer::store_for_many_tasks;
use crate::fixture::*;

const CALLERS: usize = 64;

/// Less than all callers ask for at the same time.
const LIMIT: u64 = 150;

/// What the callers have done so far.
#[derive(Default)]
struct Tally {
    tries: AtomicU64,
    reserved: AtomicU64,
    refused: AtomicU64,
    /// What is reserved at present, as far as the callers know.
    held: AtomicU64,
}

/// Reserves and releases for one caller until all tries are made.
async fn spend(store: &AuditStore, tally: &Tally, tries: u64) {
    while tally.tries.fetch_add(1, Ordering::Relaxed) < tries {
        let amount = fastrand::u64(1..10);
        let request = ReservationRequest::new(new_run_id(), Spending::new().tokens(amount));
        match store.reserve(&request).await {
            Ok(()) => {}
            Err(Error::OverBudget { .. }) => {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Err(err) => panic!("{err}"),
        }
        tally.reserved.fetch_add(1, Ordering::Relaxed);
        let held = tally.held.fetch_add(amount, Ordering::SeqCst) + amount;
        assert!(held <= LIMIT, "{held} of {LIMIT}");
        tally.held.fetch_sub(amount, Ordering::SeqCst);
        let nothing = Spending::new();
        store
            .settle_reservation(&request.id, &nothing)
            .await
            .unwrap();
    }
}

on_each_backend! {
    async fn sixty_four_callers_never_exceed_one_budget(database) {
        let store = &store_for_many_tasks(database).await;
        store.set_budget(&budget("all", LIMIT)).await.unwrap();
        let tries = counts::reservations();
        let (tally, is_over) = (&Tally::default(), &AtomicBool::new(false));
        let begun = Instant::now();
        let spending = async {
            join_all((0..CALLERS).map(|_| spend(store, tally, tries))).await;
            is_over.store(true, Ordering::Relaxed);
            begun.elapsed()
        };
        let limit = AtomicU64::new(LIMIT);
        let checks = keep_checking(database, &limit, is_over);
        let (elapsed, (checks, most)) = tokio::join!(spending, checks);

        let [reserved, refused] =
            [&tally.reserved, &tally.refused].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(reserved + refused, tries);
        assert!(refused > 0, "the callers never reached the limit");
        let status = store.find_budget("all").await.unwrap().unwrap();
        assert_eq!((status.used, status.reserved), (0, 0));
        let db = database.connection().await;
        assert_eq!(count(&db, "runtrail_budget_reservations").await, reserved as i64);
        eprintln!(
            "{tries} tries of {CALLERS} callers on {:?} in {:.1} s: {reserved} reserved, \
            {refused} refused, {checks} checks, at most {most} of {LIMIT} taken",
            database.backend(),
            elapsed.as_secs_f64(),
        );
    }
}
