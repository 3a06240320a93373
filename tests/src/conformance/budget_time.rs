//! Budgets as time passes: periods, dead owners, purges; and random calls, compared with a model.

use std::collections::BTreeMap;
use std::time::Duration;

use runtrail_audit::{
    Amount, Budget, BudgetPeriod, Budgets, Error, ErrorKind, Owner, Ownership, ReservationRequest,
    Spending, Storage,
};
use runtrail_store::AuditStore;

use crate::fixture::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn request(id: &str, tokens: u64) -> ReservationRequest {
    ReservationRequest::new(id, Spending::new().tokens(tokens))
}

fn budget(limit: u64, period: BudgetPeriod) -> Budget {
    Budget::new("b", Amount::Tokens(limit), period)
}

/// What the budget `b` has used and reserved.
async fn counted(store: &impl Budgets) -> [u64; 2] {
    let status = store.find_budget("b").await.unwrap().unwrap();
    [status.used, status.reserved]
}

/// Makes it look as if everything was reserved this much earlier.
async fn age(cx: &Cx<'_, AuditStore>, time: Duration) {
    for table in ["usage", "charges"] {
        let micros = time.as_micros();
        cx.sql(&format!(
            "UPDATE runtrail_budget_{table} SET slot_start = slot_start - {micros}"
        ))
        .await;
    }
}

cases_of_the_store! {
    async fn a_day_or_a_month_renews_all_of_a_budget(cx) {
        let periods = [(0, BudgetPeriod::day(), 1), (1, BudgetPeriod::month(), 31)];
        for (number, period, days) in periods {
            let [open, settled, next] =
                ["open", "settled", "next"].map(|name| format!("{name} {number}"));
            cx.store.set_budget(&budget(100, period)).await.unwrap();
            cx.store.reserve(&request(&open, 30)).await.unwrap();
            cx.store.reserve(&request(&settled, 70)).await.unwrap();
            let actual = Spending::new().tokens(50);
            cx.store.settle_reservation(&settled, &actual).await.unwrap();
            assert_eq!(counted(cx.store).await, [50, 30]);
            assert_kind(cx.store.reserve(&request(&next, 21)).await, ErrorKind::OverBudget);
            age(cx, days * DAY).await;
            assert_eq!(counted(cx.store).await, [0, 0]);
            cx.store.reserve(&request(&next, 100)).await.unwrap();
            // It counts in the period in which it was made.
            cx.store.settle_reservation(&open, &actual).await.unwrap();
            assert_eq!(counted(cx.store).await, [0, 100]);
        }
    }

    async fn amounts_leave_a_window_with_their_slots(cx) {
        let window = Duration::from_secs(640);
        cx.store.set_budget(&budget(100, BudgetPeriod::Window(window))).await.unwrap();
        cx.store.reserve(&request("1", 60)).await.unwrap();
        age(cx, window / 2).await;
        cx.store.reserve(&request("2", 30)).await.unwrap();
        let renews_at = cx.store.find_budget("b").await.unwrap().unwrap().renews_at.unwrap();
        let left = (renews_at - chrono::Utc::now()).as_seconds_f64();
        assert!((315.0..331.0).contains(&left), "{left}");
        assert_kind(cx.store.reserve(&request("3", 11)).await, ErrorKind::OverBudget);
        // The slot of 10 s leaves the window as a whole.
        age(cx, Duration::from_secs(331)).await;
        assert_eq!(counted(cx.store).await, [0, 30]);
        cx.store.reserve(&request("3", 70)).await.unwrap();
        assert_kind(cx.store.reserve(&request("4", 1)).await, ErrorKind::OverBudget);
        age(cx, DAY + 2 * window).await;
        cx.store.reserve(&request("4", 100)).await.unwrap();
        assert_eq!(count(cx.db, "runtrail_budget_usage").await, 1);
    }

    async fn a_short_window_renews_as_the_clock_proceeds(cx) {
        let window = Duration::from_secs(2);
        cx.store.set_budget(&budget(1, BudgetPeriod::Window(window))).await.unwrap();
        cx.store.reserve(&request("1", 1)).await.unwrap();
        assert_kind(cx.store.reserve(&request("2", 1)).await, ErrorKind::OverBudget);
        tokio::time::sleep(window + Duration::from_millis(100)).await;
        cx.store.reserve(&request("2", 1)).await.unwrap();
    }

    /// The triggers compute the same slots as the store, for any time.
    async fn reservations_are_counted_in_the_slots_of_their_time(cx) {
        let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        let east = "+02:00".parse().unwrap();
        let west = "-09:30".parse().unwrap();
        let (day, month) = (BudgetPeriod::day(), BudgetPeriod::month());
        let window = BudgetPeriod::Window(Duration::from_secs(64));
        for (period, time, slot) in [
            (day, "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (day, "2026-12-31T23:59:59.999999Z", "2026-12-31T00:00:00Z"),
            (day.at_offset(east), "2026-03-01T22:00:00Z", "2026-03-01T22:00:00Z"),
            (day.at_offset(west), "2026-03-01T09:29:59Z", "2026-02-28T09:30:00Z"),
            (month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z"),
            (month.at_offset(east), "2026-12-31T21:59:59.999999Z", "2026-11-30T22:00:00Z"),
            (month.at_offset(east), "2026-12-31T22:00:00Z", "2026-12-31T22:00:00Z"),
            (window, "2026-03-01T00:00:00.999999Z", "2026-03-01T00:00:00Z"),
            (window, "2026-03-01T00:00:01Z", "2026-03-01T00:00:01Z"),
        ] {
            cx.store.remove_budget("b").await.unwrap();
            cx.store.set_budget(&budget(1, period)).await.unwrap();
            let reserved_at = at(time).timestamp_micros();
            cx.sql("DELETE FROM runtrail_budget_reservations").await;
            cx.sql(&format!(
                "INSERT INTO runtrail_budget_reservations (id, caller_id, skill_id, channel_id, \
                tokens, cost_micros, reserved_at) VALUES ('1', '', '', '', 1, 0, {reserved_at})"
            ))
            .await;
            let slots: Vec<i64> =
                fetch(cx.db, "SELECT slot_start FROM runtrail_budget_usage").await;
            assert_eq!(slots, [at(slot).timestamp_micros()], "{period:?} {time}");
        }
    }

    /// Groups of calls share a statement.
    async fn a_statement_counts_the_reservations_that_fit(cx) {
        cx.store.set_budget(&budget(100, BudgetPeriod::Window(DAY))).await.unwrap();
        let money = Budget::new("money", Amount::CostMicros(1), BudgetPeriod::day());
        cx.store.set_budget(&money).await.unwrap();
        let now = chrono::Utc::now().timestamp_micros();
        let reserve = async |requests: &[(&str, u64)]| {
            let rows = requests.iter().map(|(id, tokens)| {
                format!("('{id}', '', '', '', {tokens}, 0, {now})")
            });
            let rows: Vec<_> = rows.collect();
            cx.sql(&format!(
                "INSERT INTO runtrail_budget_reservations (id, caller_id, skill_id, channel_id, \
                tokens, cost_micros, reserved_at) VALUES {} ON CONFLICT (id) DO NOTHING",
                rows.join(", ")
            ))
            .await;
        };
        let ids = "SELECT id FROM runtrail_budget_reservations ORDER BY id";
        reserve(&[("0", 101), ("1", 60), ("2", 41), ("3", 0), ("4", 30)]).await;
        assert_eq!(fetch::<String>(cx.db, ids).await, ["1", "3", "4"]);
        assert_eq!(counted(cx.store).await, [0, 90]);
        for _ in 0..2 {
            reserve(&[("1", 60), ("4", 30)]).await;
            reserve(&[("5", 10), ("6", 1)]).await;
            assert_eq!(fetch::<String>(cx.db, ids).await, ["1", "3", "4", "5"]);
            assert_eq!(counted(cx.store).await, [0, 100]);
        }

        // A reservation is settled, and another released.
        cx.sql(
            "UPDATE runtrail_budget_reservations SET closed_at = 9, \
            actual_tokens = CASE id WHEN '1' THEN 7 END, \
            actual_cost_micros = CASE id WHEN '1' THEN 1 END WHERE id IN ('1', '4')",
        )
        .await;
        assert_eq!(counted(cx.store).await, [7, 10]);
        let money = cx.store.find_budget("money").await.unwrap().unwrap();
        assert_eq!((money.used, money.reserved), (1, 0));
        cx.store.settle_reservation("4", &Spending::new().tokens(2)).await.unwrap();
        assert_eq!(counted(cx.store).await, [9, 10]);
        cx.sql("DELETE FROM runtrail_budget_reservations").await;
        assert_eq!(counted(cx.store).await, [9, 0]);
        assert_eq!(count(cx.db, "runtrail_budget_charges").await, 0);
    }

    /// Otherwise concurrent statements could lock the budgets in different orders.
    async fn a_statement_cannot_reserve_for_two_callers_on_postgres(cx) {
        use sea_orm::ConnectionTrait;

        if cx.backend() == Backend::Sqlite {
            return;
        }
        let sql = "INSERT INTO runtrail_budget_reservations (id, caller_id, skill_id, channel_id, \
            tokens, cost_micros, reserved_at) VALUES ('1', 'a', '', '', 1, 0, 1), \
            ('2', 'b', '', '', 1, 0, 1)";
        let err = cx.db.execute_unprepared(sql).await.unwrap_err();
        assert!(err.to_string().contains("the same caller, skill and channel"), "{err}");
        cx.store.reserve(&request("1", 1).caller("b")).await.unwrap();
    }

    async fn a_sweep_releases_the_reservations_of_dead_owners(cx) {
        cx.store.set_budget(&budget(100, BudgetPeriod::Window(DAY))).await.unwrap();
        let owned = async |id: &str| {
            let store = cx.store.clone().with_owner(Owner::new("").id(id));
            store.reserve(&request(id, 20)).await.unwrap();
            store
        };
        let dead = owned("dead").await;
        owned("alive").await;
        cx.store.reserve(&request("without", 10)).await.unwrap();
        dead.reserve(&request("settled", 5)).await.unwrap();
        dead.settle_reservation("settled", &Spending::new().tokens(4)).await.unwrap();
        cx.store.sweep_interrupted().await.unwrap();
        assert_eq!(counted(cx.store).await, [4, 50]);

        cx.sql("UPDATE runtrail_owners SET last_seen_at = 1 WHERE id = 'dead'").await;
        // The owner of an open reservation isn't purged.
        cx.store.purge_older_than(at(0)).await.unwrap();
        cx.store.sweep_interrupted().await.unwrap();
        assert_eq!(counted(cx.store).await, [4, 30]);
        cx.store.sweep_interrupted().await.unwrap();
        assert_eq!(counted(cx.store).await, [4, 30]);
        // The same request again is only a repetition.
        dead.reserve(&request("dead", 20)).await.unwrap();
        assert_eq!(counted(cx.store).await, [4, 30]);
        // The owner was alive after all.
        for _ in 0..2 {
            dead.settle_reservation("dead", &Spending::new().tokens(7)).await.unwrap();
        }
        assert_eq!(counted(cx.store).await, [11, 30]);
        cx.store.purge_older_than(at(0)).await.unwrap();
        assert_eq!(cx.store.find_owner("dead").await.unwrap(), None);
    }

    async fn a_purge_deletes_closed_reservations_but_not_what_they_have_used(cx) {
        cx.store.set_budget(&budget(100, BudgetPeriod::Window(DAY))).await.unwrap();
        for id in ["settled", "open", "abandoned"] {
            cx.store.reserve(&request(id, 10)).await.unwrap();
        }
        cx.store.settle_reservation("settled", &Spending::new().tokens(7)).await.unwrap();
        let far = chrono::Utc::now() + DAY;
        let ids = "SELECT id FROM runtrail_budget_reservations ORDER BY id";
        cx.store.purge_older_than(at(0)).await.unwrap();
        assert_eq!(count(cx.db, "runtrail_budget_reservations").await, 3);
        cx.store.purge_older_than(far).await.unwrap();
        assert_eq!(fetch::<String>(cx.db, ids).await, ["abandoned", "open"]);
        assert_eq!(counted(cx.store).await, [7, 20]);
        // The slots have ended and are deleted.
        age(cx, 4 * DAY).await;
        cx.store.reserve(&request("new", 1)).await.unwrap();
        cx.store.purge_older_than(far).await.unwrap();
        assert_eq!(fetch::<String>(cx.db, ids).await, ["new"]);
        assert_eq!(count(cx.db, "runtrail_budget_charges").await, 1);
    }

    async fn a_dropped_reservation_counts_once_when_it_is_repeated(cx) {
        cx.store.set_budget(&budget(1_000_000, BudgetPeriod::day())).await.unwrap();
        for number in 0..40 {
            let id = number.to_string();
            poll_some(cx.store.reserve(&request(&id, 10)), number % 8).await;
            cx.store.reserve(&request(&id, 10)).await.unwrap();
            let actual = Spending::new().tokens(3);
            poll_some(cx.store.settle_reservation(&id, &actual), number % 8).await;
            cx.store.settle_reservation(&id, &actual).await.unwrap();
        }
        assert_eq!(counted(cx.store).await, [120, 0]);
    }

    /// 64 tasks on several threads.
    async fn exactly_as_many_tasks_succeed_as_a_budget_allows(cx) {
        cx.store.set_budget(&budget(200, BudgetPeriod::day())).await.unwrap();
        let tasks = (0..64).map(|task| {
            let store = cx.store.clone();
            tokio::spawn(async move {
                let mut reserved = 0;
                for number in 0..5 {
                    match store.reserve(&request(&format!("{task}-{number}"), 2)).await {
                        Ok(()) => reserved += 1,
                        Err(Error::OverBudget { .. }) => {}
                        Err(err) => panic!("{err}"),
                    }
                }
                reserved
            })
        });
        let reserved = futures_util::future::join_all(tasks).await;
        let reserved: u64 = reserved.into_iter().map(Result::unwrap).sum();
        assert_eq!(reserved, 100);
        assert_eq!(counted(cx.store).await, [0, 200]);
    }

    /// Another snapshot than the latest must not hide what others have reserved.
    async fn a_transaction_reserves_nothing_from_an_outdated_snapshot(cx) {
        use sea_orm::{IsolationLevel, TransactionTrait};

        if cx.backend() == Backend::Sqlite {
            return;
        }
        cx.store.set_budget(&budget(100, BudgetPeriod::Window(DAY))).await.unwrap();
        cx.store.reserve(&request("1", 10)).await.unwrap();
        let isolation = Some(IsolationLevel::RepeatableRead);
        let txn = cx.db.begin_with_config(isolation, None).await.unwrap();
        execute(&txn, "SELECT COUNT(*) FROM skill_runs").await;
        cx.store.reserve(&request("2", 60)).await.unwrap();
        assert_kind(cx.store.on(&txn).reserve(&request("3", 60)).await, ErrorKind::Backend);
        txn.rollback().await.unwrap();
        // A refusal doesn't end the transaction.
        let txn = cx.db.begin().await.unwrap();
        let refused = cx.store.on(&txn).reserve(&request("3", 60)).await;
        assert_kind(refused, ErrorKind::OverBudget);
        cx.store.on(&txn).reserve(&request("3", 30)).await.unwrap();
        txn.commit().await.unwrap();
        assert_eq!(counted(cx.store).await, [0, 100]);
    }

    async fn random_calls_have_the_results_of_a_model(cx) {
        // The amount of each reservation, and what it has used.
        let mut model: BTreeMap<u64, (u64, Option<u64>)> = BTreeMap::new();
        let mut limit = 60;
        cx.store.set_budget(&budget(limit, BudgetPeriod::Window(DAY))).await.unwrap();
        for _ in 0..300 {
            let id = fastrand::u64(0..20);
            let amount = fastrand::u64(0..15);
            let (used, reserved) = model.values().fold((0, 0), |sum, it| match it {
                (_, Some(actual)) => (sum.0 + actual, sum.1),
                (amount, None) => (sum.0, sum.1 + amount),
            });
            assert_eq!(counted(cx.store).await, [used, reserved]);
            match fastrand::u64(0..10) {
                0 => {
                    limit = fastrand::u64(0..200);
                    let changed = budget(limit, BudgetPeriod::Window(DAY));
                    cx.store.set_budget(&changed).await.unwrap();
                }
                1..6 => {
                    let result = cx.store.reserve(&request(&id.to_string(), amount)).await;
                    let expected = match model.get(&id) {
                        Some((stored, _)) if *stored == amount => None,
                        Some(_) => Some(ErrorKind::ReservationConflict),
                        None if used + reserved + amount.max(1) > limit => {
                            Some(ErrorKind::OverBudget)
                        }
                        None => None,
                    };
                    assert_eq!(result.as_ref().err().map(Error::kind), expected);
                    if result.is_ok() {
                        model.entry(id).or_insert((amount, None));
                    }
                }
                _ => {
                    let actual = Spending::new().tokens(amount);
                    let result = cx.store.settle_reservation(&id.to_string(), &actual).await;
                    let expected = match model.get(&id) {
                        None => Some(ErrorKind::UnknownReservation),
                        Some((_, Some(stored))) if *stored != amount => {
                            Some(ErrorKind::ReservationConflict)
                        }
                        Some(_) => None,
                    };
                    assert_eq!(result.as_ref().err().map(Error::kind), expected);
                    if result.is_ok() {
                        model.insert(id, (model[&id].0, Some(amount)));
                    }
                }
            }
        }
    }
}
