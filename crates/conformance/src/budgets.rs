//! Budgets and reservations.

use std::time::Duration;

use futures_util::future::join_all;
use runtrail_audit::{
    Amount, Budget, BudgetPeriod, BudgetScope, ErrorKind, ReservationRequest, Spending,
};

use crate::support::*;

/// A budget of tokens that renews in an hour at the earliest.
fn tokens(name: &str, limit: u64) -> Budget {
    let period = BudgetPeriod::Window(Duration::from_secs(60 * 60));
    Budget::new(name, Amount::Tokens(limit), period)
}

/// A request for tokens, for the caller `caller`.
fn request(id: &str, tokens: u64) -> ReservationRequest {
    ReservationRequest::new(id, Spending::new().tokens(tokens)).caller("caller")
}

/// What a budget has used and reserved, and what is left.
macro_rules! state {
    ($cx:ident, $name:expr) => {{
        let status = $cx.store.find_budget($name).await.unwrap().unwrap();
        [status.used, status.reserved, status.left().number()]
    }};
}

cases! {
    ($) History, budgets_cases: budgets

    async fn a_reservation_counts_until_it_is_settled(cx) {
        cx.store.set_budget(&tokens("b", 100)).await.unwrap();
        assert_eq!(state!(cx, "b"), [0, 0, 100]);
        cx.store.reserve(&request("1", 60)).await.unwrap();
        assert_eq!(state!(cx, "b"), [0, 60, 40]);
        let err = assert_kind(cx.store.reserve(&request("2", 41)).await, ErrorKind::OverBudget);
        let text = err.to_string();
        let expected = r#"budget "b" has only 40 tokens left; it renews at 2"#;
        assert!(text.starts_with(expected), "{text}");
        cx.store.reserve(&request("2", 40)).await.unwrap();
        cx.store.settle_reservation("1", &Spending::new().tokens(25)).await.unwrap();
        assert_eq!(state!(cx, "b"), [25, 40, 35]);
        // Released.
        cx.store.settle_reservation("2", &Spending::new()).await.unwrap();
        assert_eq!(state!(cx, "b"), [25, 0, 75]);
        assert!(!err.is_transient());
    }

    async fn more_than_was_reserved_counts_too(cx) {
        cx.store.set_budget(&tokens("b", 100)).await.unwrap();
        cx.store.reserve(&request("1", 60)).await.unwrap();
        cx.store.settle_reservation("1", &Spending::new().tokens(130)).await.unwrap();
        assert_eq!(state!(cx, "b"), [130, 0, 0]);
        for requested in [0, 1] {
            let refused = cx.store.reserve(&request("2", requested)).await;
            assert_kind(refused, ErrorKind::OverBudget);
        }
    }

    async fn concurrent_callers_never_exceed_a_limit(cx) {
        cx.store.set_budget(&tokens("b", 400)).await.unwrap();
        let requests: Vec<_> = (0..64).map(|it| request(&format!("{it}"), 10)).collect();
        let results = join_all(requests.iter().map(|request| cx.store.reserve(request))).await;
        let refused = results.into_iter().filter_map(Result::err);
        let kinds: Vec<_> = refused.map(|err| err.kind()).collect();
        assert_eq!(kinds, vec![ErrorKind::OverBudget; 24]);
        assert_eq!(state!(cx, "b"), [0, 400, 0]);
        let nothing = Spending::new();
        let settled = (0..64).map(|it| format!("{it}"));
        let settled: Vec<_> = settled.collect();
        let settled = settled.iter().map(|id| cx.store.settle_reservation(id, &nothing));
        let settled = join_all(settled).await;
        assert_eq!(settled.iter().filter(|result| result.is_ok()).count(), 40);
        assert_eq!(state!(cx, "b"), [0, 0, 400]);
    }

    async fn the_same_request_again_counts_once(cx) {
        cx.store.set_budget(&tokens("b", 100)).await.unwrap();
        for _ in 0..3 {
            cx.store.reserve(&request("1", 60).run("r")).await.unwrap();
        }
        assert_eq!(state!(cx, "b"), [0, 60, 40]);
        for other in [
            request("1", 61).run("r"),
            request("1", 60),
            request("1", 60).run("r").caller("other"),
            request("1", 60).run("r").skill("other"),
            request("1", 60).run("r").channel("other"),
        ] {
            assert_kind(cx.store.reserve(&other).await, ErrorKind::ReservationConflict);
        }
        let actual = Spending::new().tokens(7).cost_micros(5);
        for _ in 0..3 {
            cx.store.settle_reservation("1", &actual).await.unwrap();
        }
        cx.store.reserve(&request("1", 60).run("r")).await.unwrap();
        assert_eq!(state!(cx, "b"), [7, 0, 93]);
        let other = cx.store.settle_reservation("1", &Spending::new().tokens(7)).await;
        assert_kind(other, ErrorKind::ReservationConflict);
        let unknown = cx.store.settle_reservation("2", &actual).await;
        assert_kind(unknown, ErrorKind::UnknownReservation);
        assert_eq!(state!(cx, "b"), [7, 0, 93]);
    }

    async fn every_budget_whose_scope_matches_counts_a_reservation_or_none_does(cx) {
        let scopes = [
            ("all", 100, BudgetScope::Everything),
            ("caller", 50, BudgetScope::Caller("caller".into())),
            ("channel", 40, BudgetScope::Channel("channel".into())),
            ("other", 10, BudgetScope::Caller("other".into())),
            ("skill", 30, BudgetScope::Skill("skill".into())),
        ];
        for (name, limit, scope) in scopes {
            cx.store.set_budget(&tokens(name, limit).scope(scope)).await.unwrap();
        }
        let whole = |id, tokens| request(id, tokens).skill("skill").channel("channel");
        cx.store.reserve(&whole("1", 20)).await.unwrap();
        assert_kind(cx.store.reserve(&whole("2", 15)).await, ErrorKind::OverBudget);
        cx.store.reserve(&request("3", 15)).await.unwrap();
        // Neither caller, skill nor channel has a budget.
        cx.store.reserve(&request("4", 45).caller("else")).await.unwrap();
        let mut reserved = Vec::new();
        for status in cx.store.list_budgets().await.unwrap() {
            reserved.push((status.budget.name, status.reserved));
        }
        let expected = [("all", 80), ("caller", 35), ("channel", 20), ("other", 0), ("skill", 20)];
        assert_eq!(reserved, expected.map(|(name, reserved)| (name.to_owned(), reserved)));
        cx.store.settle_reservation("1", &Spending::new().tokens(1)).await.unwrap();
        assert_eq!(state!(cx, "all"), [1, 60, 39]);
        assert_eq!(state!(cx, "skill"), [1, 0, 29]);
    }

    async fn a_budget_in_another_unit_refuses_only_if_it_is_used_up(cx) {
        let money = Budget::new("money", Amount::CostMicros(100), BudgetPeriod::day());
        cx.store.set_budget(&money).await.unwrap();
        cx.store.reserve(&request("1", 1_000)).await.unwrap();
        cx.store.settle_reservation("1", &Spending::new().cost_micros(100)).await.unwrap();
        let refused = cx.store.reserve(&request("2", 1)).await;
        let err = assert_kind(refused, ErrorKind::OverBudget);
        assert!(err.to_string().starts_with(r#"budget "money" has only $0.00 left"#), "{err}");
        let renews_at = cx.store.find_budget("money").await.unwrap().unwrap().renews_at.unwrap();
        assert_eq!(renews_at.timestamp_micros() % 86_400_000_000, 0);
    }

    async fn a_replaced_budget_counts_anew_unless_only_its_limit_changes(cx) {
        cx.store.set_budget(&tokens("b", 100)).await.unwrap();
        cx.store.reserve(&request("1", 60)).await.unwrap();
        for limit in [50, 200, 200] {
            cx.store.set_budget(&tokens("b", limit)).await.unwrap();
        }
        assert_eq!(state!(cx, "b"), [0, 60, 140]);
        cx.store.set_budget(&tokens("c", 100)).await.unwrap();
        let narrower = tokens("b", 200).scope(BudgetScope::Caller("caller".into()));
        cx.store.set_budget(&narrower).await.unwrap();
        assert_eq!(state!(cx, "b"), [0, 0, 200]);
        cx.store.reserve(&request("2", 5)).await.unwrap();
        // The first one began before both budgets.
        cx.store.settle_reservation("1", &Spending::new().tokens(60)).await.unwrap();
        assert_eq!(state!(cx, "b"), [0, 5, 195]);
        assert_eq!(state!(cx, "c"), [0, 5, 95]);

        for _ in 0..2 {
            cx.store.remove_budget("b").await.unwrap();
        }
        assert_eq!(cx.store.find_budget("b").await.unwrap(), None);
        cx.store.set_budget(&narrower).await.unwrap();
        cx.store.settle_reservation("2", &Spending::new().tokens(5)).await.unwrap();
        assert_eq!(state!(cx, "b"), [0, 0, 200]);
        assert_eq!(state!(cx, "c"), [5, 0, 95]);
    }

    async fn budgets_are_read_back_as_set(cx) {
        let offset = "+05:30".parse().unwrap();
        let window = Duration::from_micros(1_000_001);
        let budgets = [
            Budget::new("a", Amount::CostMicros(5), BudgetPeriod::month()),
            Budget::new("b", Amount::Tokens(0), BudgetPeriod::day().at_offset(offset)),
            Budget::new("c", Amount::Tokens(1), BudgetPeriod::month().at_offset(offset))
                .scope(BudgetScope::Skill("s".into())),
            Budget::new("d", Amount::Tokens(1), BudgetPeriod::Window(window))
                .scope(BudgetScope::Channel(String::new())),
        ];
        for budget in budgets.iter().rev() {
            cx.store.set_budget(budget).await.unwrap();
        }
        let stored = cx.store.list_budgets().await.unwrap();
        let stored: Vec<_> = stored.into_iter().map(|status| status.budget).collect();
        assert_eq!(stored, budgets);
        assert_eq!(cx.store.find_budget("e").await.unwrap(), None);
        assert_kind(cx.store.reserve(&request("1", 0)).await, ErrorKind::OverBudget);
    }

    async fn invalid_budgets_and_reservations_are_refused(cx) {
        let too_long = "x".repeat(256);
        let too_much = 1_000_000_000_000_001;
        for invalid in ["", "a\0", too_long.as_str()] {
            assert_invalid(cx.store.set_budget(&tokens(invalid, 1)).await, "budget");
            assert_invalid(cx.store.remove_budget(invalid).await, "budget");
            assert_invalid(cx.store.find_budget(invalid).await, "budget");
            assert_invalid(cx.store.reserve(&request(invalid, 1)).await, "id");
            assert_invalid(cx.store.reserve(&request("1", 1).run(invalid)).await, "run_id");
            let settled = cx.store.settle_reservation(invalid, &Spending::new()).await;
            assert_invalid(settled, "id");
        }
        for invalid in ["a\0", too_long.as_str()] {
            let scope = BudgetScope::Skill(invalid.into());
            assert_invalid(cx.store.set_budget(&tokens("b", 1).scope(scope)).await, "scope");
            assert_invalid(cx.store.reserve(&request("1", 1).caller(invalid)).await, "caller_id");
            assert_invalid(cx.store.reserve(&request("1", 1).skill(invalid)).await, "skill_id");
            let by_channel = request("1", 1).channel(invalid);
            assert_invalid(cx.store.reserve(&by_channel).await, "channel_id");
        }
        for length in [Duration::from_millis(999), Duration::MAX] {
            let budget = Budget::new("b", Amount::Tokens(1), BudgetPeriod::Window(length));
            assert_invalid(cx.store.set_budget(&budget).await, "window");
        }
        assert_invalid(cx.store.set_budget(&tokens("b", too_much)).await, "limit");
        assert_invalid(cx.store.reserve(&request("1", too_much)).await, "tokens");
        let actual = Spending::new().cost_micros(too_much);
        assert_invalid(cx.store.settle_reservation("1", &actual).await, "cost_micros");
        assert_eq!(cx.store.list_budgets().await.unwrap(), []);
    }
}
