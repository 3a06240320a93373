//! Pages from a cursor.

use futures_util::{StreamExt, TryStreamExt};
use runtrail_audit::{
    Bounds, Choice, Cursor, CursorPage, History, ListOrder, LogFilter, Page, PageRequest, Parent,
    RunQuery, RunStatus, RunSummary, SkillRun,
};

use crate::support::*;

#[doc(hidden)]
pub const ORDERS: [ListOrder; 2] = [ListOrder::NewestFirst, ListOrder::OldestFirst];

/// Starts many runs at only seven different times; some have a parent that isn't stored.
#[doc(hidden)]
pub async fn many_runs(store: &(impl History + ?Sized)) -> Vec<SkillRun> {
    let mut runs = Vec::new();
    for number in 0..60 {
        let seconds = number % 7;
        let run = with(
            running_at(&format!("run-{number:02}"), seconds as i64),
            |it| {
                it.skill_id = format!("skill-{}", number % 5);
                it.caller_id = format!("caller-{}", number % 4);
                it.channel_id = format!("channel-{}", number % 3);
                it.parent_run_id = match number % 6 {
                    0 => None,
                    1 => Some("purged".into()),
                    parent => Some(format!("run-{parent:02}")),
                };
                it.status = [
                    RunStatus::OK,
                    RunStatus::ERROR,
                    RunStatus::TIMEOUT,
                    RunStatus::DRY_RUN,
                ][number % 4]
                    .clone();
                it.finished_at = (number % 8 > 0).then(|| at(100 + number as i64));
                it.runtime_seconds = number as f64 / 4.0;
                it.total_input_tokens = number as u64;
                it.total_output_tokens = 10;
                it.total_thinking_tokens = number as u64 % 2;
            },
        );
        store.start_run(&run).await.unwrap();
        runs.push(run);
    }
    runs.sort_by(|left, right| (right.started_at, &right.id).cmp(&(left.started_at, &left.id)));
    runs
}

/// Returns whether a query matches a run: an independent implementation, to check the store's.
fn matches(query: &RunQuery, run: &SkillRun, stored: &[SkillRun]) -> bool {
    fn is_in<T: PartialEq>(choice: &Choice<T>, value: &T) -> bool {
        choice.only.as_ref().is_none_or(|only| only.contains(value))
            && !choice.except.contains(value)
    }
    fn is_within<T: PartialOrd>(bounds: &Bounds<T>, value: &T) -> bool {
        bounds.from.as_ref().is_none_or(|from| value >= from)
            && bounds.to.as_ref().is_none_or(|to| value <= to)
    }
    let any_time = query.finished == Bounds::default();
    is_in(&query.statuses, &run.status)
        && is_in(&query.skills, &run.skill_id)
        && is_in(&query.callers, &run.caller_id)
        && is_in(&query.channels, &run.channel_id)
        && match &query.parent {
            Parent::Any => true,
            Parent::None => run.parent_run_id.is_none(),
            Parent::NoneStored => !stored
                .iter()
                .any(|parent| Some(&parent.id) == run.parent_run_id.as_ref()),
            Parent::Run(id) => run.parent_run_id.as_ref() == Some(id),
            unknown => panic!("{unknown:?}"),
        }
        && is_within(&query.started, &run.started_at)
        && run
            .finished_at
            .map_or(any_time, |at| is_within(&query.finished, &at))
        && is_within(&query.runtime_seconds, &run.runtime_seconds)
        && is_within(&query.total_tokens, &RunSummary::from(run).total_tokens())
        && run.id.starts_with(&query.id_prefix)
        && (query.include_dry_run || run.status != RunStatus::DRY_RUN)
}

#[doc(hidden)]
pub async fn page(
    store: &(impl History + ?Sized),
    query: &RunQuery,
    order: ListOrder,
    request: PageRequest,
) -> CursorPage<SkillRun> {
    store.page_runs(query, order, &request).await.unwrap()
}

/// Returns all runs of a query, read page by page.
#[doc(hidden)]
pub async fn all_pages(
    store: &(impl History + ?Sized),
    query: &RunQuery,
    order: ListOrder,
    limit: u64,
) -> Vec<SkillRun> {
    let mut runs = Vec::new();
    let mut next = None;
    loop {
        let page = page(store, query, order, PageRequest::first(limit).at(next)).await;
        assert!(page.items.len() as u64 <= limit);
        runs.extend(page.items);
        next = page.next;
        if next.is_none() {
            return runs;
        }
    }
}

fn queries() -> Vec<RunQuery> {
    let new = RunQuery::new;
    vec![
        new(),
        new().include_dry_run(),
        new().statuses(["error"]),
        new().statuses(["error", "timeout"]),
        new().statuses(["dry_run"]),
        new().except_statuses(["error"]),
        new()
            .except_statuses(["error", "timeout", "never"])
            .include_dry_run(),
        new().skills(["skill-1"]),
        new().skills(["skill-1", "skill-3", "never"]),
        new().skills(["skill-4", "skill-1", "skill-4"]),
        new().skills((0..20).map(|number| format!("skill-{number}"))),
        new()
            .skills(["skill-1", "skill-3"])
            .statuses(["ok", "error"]),
        new().except_skills(["skill-1", "skill-3"]),
        new()
            .callers(["caller-0", "caller-1"])
            .except_callers(["caller-1"]),
        new().channels(["channel-0", "channel-2"]),
        new().except_channels(["channel-0"]),
        new().top_level_only(),
        new().without_stored_parent(),
        new().without_stored_parent().skills(["skill-1", "skill-2"]),
        new().children_of("run-03"),
        new().children_of("never"),
        new().started(at(2)..=at(4)),
        new().started(at(5)..),
        new().finished(..=at(120)),
        new().finished(at(110)..=at(130)),
        new().runtime_seconds(3.25..=7.5),
        new().runtime_seconds(14.0..),
        new().total_tokens(20..=40),
        new().total_tokens(..=u64::MAX >> 1),
        new().id_prefix("run-1"),
        new().id_prefix("never"),
        new()
            .id_prefix("run-2")
            .statuses(["ok", "error"])
            .except_skills(["skill-0"])
            .started(at(1)..),
    ]
}

cases! {
    ($) History, pages_cases: pages

    async fn pages_cover_all_runs_of_a_query_in_both_orders(cx) {
        let runs = many_runs(cx.store).await;
        for query in queries() {
            let mut expected: Vec<_> = runs
                .iter()
                .filter(|run| matches(&query, run, &runs))
                .cloned()
                .collect();
            for limit in [1, 7, 1_000] {
                assert_eq!(
                    all_pages(cx.store, &query, ListOrder::NewestFirst, limit).await,
                    expected,
                    "{query:?}"
                );
            }
            assert_eq!(
                cx.store.count_runs_by_query(&query).await.unwrap(),
                expected.len() as u64,
                "{query:?}"
            );
            let (newest_three, page) = (&expected[..expected.len().min(3)], Page::first(3));
            let streamed: Vec<_> = cx
                .store
                .stream_runs_by_query(&query, ListOrder::NewestFirst, page)
                .try_collect()
                .await
                .unwrap();
            assert_eq!(streamed, newest_three, "{query:?}");
            expected.reverse();
            let ids: Vec<_> = runs.iter().map(|run| run.id.clone()).collect();
            let found = cx.store.find_runs(&ids, &query).await.unwrap();
            let summaries: Vec<_> = expected.iter().map(RunSummary::from).collect();
            assert_eq!(found, summaries, "{query:?}");
            let streamed: Vec<_> = cx
                .store
                .stream_runs_by_query(&query, ListOrder::OldestFirst, Page::ALL)
                .try_collect()
                .await
                .unwrap();
            assert_eq!(streamed, expected, "{query:?}");
            assert_eq!(
                all_pages(cx.store, &query, ListOrder::OldestFirst, 7).await,
                expected,
                "{query:?}"
            );
        }
    }

    async fn without_stored_parent_matches_runs_whose_parent_is_missing(cx) {
        let query = RunQuery::new().without_stored_parent();
        let taken = async || {
            let runs = all_pages(cx.store, &query, ListOrder::OldestFirst, 2).await;
            runs.into_iter().map(|run| run.id).collect::<Vec<_>>()
        };
        for run in [
            with(finished_at("old", 1), |run| run.parent_run_id = None),
            child("of an old one", "old"),
            running("top"),
            child("of the top", "top"),
            child("of a missing one", "missing"),
            child("of an empty name", ""),
            child("itself", "itself"),
            child("round", "about"),
            child("about", "round"),
        ] {
            cx.store.start_run(&run).await.unwrap();
        }
        assert_eq!(
            taken().await,
            ["of a missing one", "of an empty name", "old", "top"]
        );
        cx.store.purge_older_than(at(2)).await.unwrap();
        assert_eq!(
            taken().await,
            [
                "of a missing one",
                "of an empty name",
                "of an old one",
                "top"
            ]
        );
        cx.store.start_run(&running("missing")).await.unwrap();
        assert_eq!(
            taken().await,
            ["missing", "of an empty name", "of an old one", "top"]
        );
        let strictly = all_pages(
            cx.store,
            &RunQuery::new().top_level_only(),
            ListOrder::OldestFirst,
            2,
        )
        .await;
        assert_eq!(ids(&strictly), ["missing", "top"]);
    }

    async fn paging_backward_returns_the_same_pages(cx) {
        many_runs(cx.store).await;
        for order in ORDERS {
            let query = RunQuery::new();
            let mut pages = vec![page(cx.store, &query, order, PageRequest::first(7)).await];
            while let Some(next) = pages.last().and_then(|last| last.next.clone()) {
                pages.push(page(cx.store, &query, order, PageRequest::first(7).at(next)).await);
            }
            assert!(pages.len() > 2);
            while let Some(reached) = pages.pop() {
                assert_eq!(reached.previous.is_some(), !pages.is_empty());
                // The first page has a start cursor as well, since runs may be added before it.
                let back = PageRequest::first(7).at(reached.start_cursor);
                let before = page(cx.store, &query, order, back).await;
                let expected = pages
                    .last()
                    .map(|page| page.items.clone())
                    .unwrap_or_default();
                assert_eq!(before.items, expected);
                assert_eq!(before.previous.is_some(), pages.len() > 1);
                assert_eq!(before.next.is_some(), !pages.is_empty());
                if let Some(next) = before.next {
                    let again = page(cx.store, &query, order, PageRequest::first(7).at(next)).await;
                    assert_eq!(again.items, reached.items);
                }
            }
        }
    }

    async fn runs_started_while_paging_shift_no_page(cx) {
        let runs = many_runs(cx.store).await;
        let query = RunQuery::new().include_dry_run();
        let mut request = PageRequest::first(10);
        let mut seen = Vec::new();
        for number in 0.. {
            let page = page(cx.store, &query, ListOrder::NewestFirst, request.clone()).await;
            seen.extend(page.items);
            cx.store
                .start_run(&running_at(&format!("newer-{number}"), 1_000))
                .await
                .unwrap();
            let Some(next) = page.next else { break };
            request = request.at(next);
        }
        assert_eq!(seen, runs);
    }

    async fn paging_continues_from_the_end_when_runs_are_added(cx) {
        let query = RunQuery::new();
        for number in 0..3 {
            cx.store
                .start_run(&running_at(&format!("r-{number}"), number))
                .await
                .unwrap();
        }
        let end = page(
            cx.store,
            &query,
            ListOrder::OldestFirst,
            PageRequest::first(10),
        )
        .await;
        assert_eq!((&end.next, &end.previous), (&None, &None));
        let after = PageRequest::first(10).at(end.end_cursor.clone());
        let nothing = page(cx.store, &query, ListOrder::OldestFirst, after).await;
        assert_eq!(
            (nothing.items.len(), &nothing.next, &nothing.previous),
            (0, &None, &None)
        );
        assert_eq!(
            (&nothing.end_cursor, &nothing.start_cursor),
            (&end.end_cursor, &None)
        );
        cx.store.start_run(&running_at("later", 10)).await.unwrap();
        let after = PageRequest::first(10).at(nothing.end_cursor);
        assert_eq!(
            ids(&page(cx.store, &query, ListOrder::OldestFirst, after)
                .await
                .items),
            ["later"]
        );
    }

    async fn the_page_of_an_empty_list_has_no_cursors(cx) {
        let page = page(
            cx.store,
            &RunQuery::new(),
            ListOrder::NewestFirst,
            PageRequest::default(),
        )
        .await;
        assert_eq!(page, CursorPage::new(vec![]));
    }

    /// A filter by the tenants that a user may see must not match all runs when there are no such
    /// tenants.
    async fn an_empty_list_of_values_matches_no_run(cx) {
        many_runs(cx.store).await;
        let none = || Vec::<String>::new();
        let new = RunQuery::new;
        for query in [
            new().callers(none()),
            new().skills(none()),
            new().channels(none()),
            new().statuses(none()),
        ] {
            let query = query.include_dry_run();
            assert_eq!(
                all_pages(cx.store, &query, ListOrder::NewestFirst, 10).await,
                []
            );
            assert_eq!(cx.store.count_runs_by_query(&query).await.unwrap(), 0);
            let streamed: Vec<_> = cx
                .store
                .stream_runs_by_query(&query, ListOrder::OldestFirst, Page::ALL)
                .collect()
                .await;
            assert!(streamed.is_empty(), "{streamed:?}");
        }
        let all_but_none = new().except_callers(none());
        assert_eq!(
            all_pages(cx.store, &all_but_none, ListOrder::NewestFirst, 10).await,
            all_pages(cx.store, &new(), ListOrder::NewestFirst, 10).await
        );
    }

    async fn a_cursor_of_another_list_is_refused(cx) {
        many_runs(cx.store).await;
        let query = RunQuery::new().skills(["skill-1", "skill-2"]);
        let first = page(
            cx.store,
            &query,
            ListOrder::NewestFirst,
            PageRequest::first(2),
        )
        .await;
        let request = PageRequest::first(2).at(first.next.unwrap());
        page(cx.store, &query, ListOrder::NewestFirst, request.clone()).await;
        let same = RunQuery::new().skills(["skill-2", "skill-1", "skill-2"]);
        page(cx.store, &same, ListOrder::NewestFirst, request.clone()).await;

        let another_order = cx
            .store
            .page_runs(&query, ListOrder::OldestFirst, &request)
            .await;
        assert_invalid(another_order, "cursor");
        for another in queries() {
            assert_invalid(
                cx.store
                    .page_runs(&another, ListOrder::NewestFirst, &request)
                    .await,
                "cursor",
            );
        }
        let events = cx
            .store
            .page_logs(
                "run-01",
                &LogFilter::new(),
                ListOrder::NewestFirst,
                &request,
            )
            .await;
        assert_invalid(events, "cursor");
    }

    async fn a_damaged_cursor_is_refused(cx) {
        many_runs(cx.store).await;
        let query = RunQuery::new();
        let first = page(
            cx.store,
            &query,
            ListOrder::NewestFirst,
            PageRequest::first(2),
        )
        .await;
        let cursor = first.next.unwrap().to_string();
        let damaged = [
            "",
            "x",
            "-",
            "e30",
            "\0",
            "🙂",
            &cursor[1..],
            &cursor[..cursor.len() - 4],
            &format!("{cursor}{cursor}"),
        ];
        for text in damaged {
            let request = PageRequest::first(2).at(Cursor::from(text));
            assert_invalid(
                cx.store
                    .page_runs(&query, ListOrder::NewestFirst, &request)
                    .await,
                "cursor",
            );
        }
    }

    async fn a_page_has_one_to_a_thousand_records(cx) {
        for limit in [0, 1_001, u64::MAX] {
            let request = PageRequest::first(limit);
            assert_invalid(
                cx.store
                    .page_runs(&RunQuery::new(), ListOrder::NewestFirst, &request)
                    .await,
                "limit",
            );
        }
        page(
            cx.store,
            &RunQuery::new(),
            ListOrder::NewestFirst,
            PageRequest::first(1_000),
        )
        .await;
    }

    async fn values_that_no_run_can_have_are_refused_naming_the_field(cx) {
        let nul = || ["a\0b"];
        let new = RunQuery::new;
        let queries = [
            (new().statuses(nul()), "status"),
            (new().except_statuses(nul()), "status"),
            (new().skills(nul()), "skill_id"),
            (new().callers(nul()), "caller_id"),
            (new().except_channels(nul()), "channel_id"),
            (new().children_of("x".repeat(256)), "parent_run_id"),
            (new().id_prefix("x".repeat(256)), "id_prefix"),
            (new().runtime_seconds(f64::NAN..), "runtime_seconds"),
            (new().total_tokens(u64::MAX..), "total_tokens"),
        ];
        for (query, field) in queries {
            assert_invalid(
                cx.store
                    .page_runs(&query, ListOrder::NewestFirst, &PageRequest::first(1))
                    .await,
                field,
            );
        }
    }

    async fn a_prefix_is_compared_by_bytes_and_is_no_pattern(cx) {
        let names = [
            "a",
            "a%",
            "a%b",
            "a_",
            "ab",
            "aB",
            "A",
            "a\u{10FFFF}",
            "a\u{10FFFF}b",
            "a\u{D7FF}",
            "a\u{E000}",
            "b",
            "é",
            "éa",
        ];
        for id in names {
            cx.store.start_run(&running(id)).await.unwrap();
        }
        for prefix in [
            "a",
            "a%",
            "a_",
            "A",
            "a\u{10FFFF}",
            "a\u{D7FF}",
            "\u{10FFFF}",
            "é",
            "b",
            "aba",
        ] {
            let runs = all_pages(
                cx.store,
                &RunQuery::new().id_prefix(prefix),
                ListOrder::NewestFirst,
                3,
            )
            .await;
            let mut expected: Vec<&str> = names
                .into_iter()
                .filter(|id| id.starts_with(prefix))
                .collect();
            expected.sort_by(|left, right| right.cmp(left));
            assert_eq!(ids(&runs), expected, "{prefix}");
        }
    }

    async fn a_sum_of_tokens_beyond_64_bits_is_compared_correctly(cx) {
        let run = with(finished_at("r", 1), |run| {
            run.total_input_tokens = i64::MAX as u64;
            run.total_output_tokens = i64::MAX as u64;
            run.total_thinking_tokens = i64::MAX as u64;
        });
        cx.store.start_run(&run).await.unwrap();
        let many = RunQuery::new().total_tokens(i64::MAX as u64..);
        assert_eq!(
            ids(&all_pages(cx.store, &many, ListOrder::NewestFirst, 5).await),
            ["r"]
        );
        let few = RunQuery::new().total_tokens(..=1_000);
        assert!(
            all_pages(cx.store, &few, ListOrder::NewestFirst, 5)
                .await
                .is_empty()
        );
    }

    async fn pages_of_summaries_match_the_pages_of_runs(cx) {
        many_runs(cx.store).await;
        let query = RunQuery::new().except_skills(["skill-0"]);
        let mut request = PageRequest::first(9);
        loop {
            let page = page(cx.store, &query, ListOrder::NewestFirst, request.clone()).await;
            let short = cx
                .store
                .page_run_summaries(&query, ListOrder::NewestFirst, &request)
                .await
                .unwrap();
            let expected: Vec<_> = page.items.iter().map(RunSummary::from).collect();
            assert_eq!(short.items, expected);
            assert_eq!((&short.next, &short.previous), (&page.next, &page.previous));
            assert_eq!(
                (&short.start_cursor, &short.end_cursor),
                (&page.start_cursor, &page.end_cursor)
            );
            let Some(next) = short.next else { break };
            request = request.at(next);
        }
    }

    async fn pages_cover_all_events_of_a_run_in_both_orders(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.start_run(&running("other")).await.unwrap();
        for number in 0..40 {
            let event_type = if number % 3 == 0 { "third" } else { "message" };
            let event = with(event("r", number * 10), |event| {
                event.event_type = event_type.into();
                event.created_at = Some(at(7));
            });
            cx.store.append_log(&event).await.unwrap();
            cx.store
                .append_log(&with(event, |event| event.run_id = "other".into()))
                .await
                .unwrap();
        }
        let events = cx.store.list_logs_by_run("r").await.unwrap();
        for filter in [
            LogFilter::new(),
            LogFilter::new().event_type("third"),
            LogFilter::new().after(195),
        ] {
            for order in ORDERS {
                let mut expected: Vec<_> = events
                    .iter()
                    .filter(|event| {
                        filter
                            .event_type
                            .as_ref()
                            .is_none_or(|it| *it == event.event_type)
                    })
                    .filter(|event| filter.after.is_none_or(|after| event.sequence > after))
                    .cloned()
                    .collect();
                if order == ListOrder::NewestFirst {
                    expected.reverse();
                }
                let mut request = PageRequest::first(6);
                let mut seen = Vec::new();
                loop {
                    let page = cx
                        .store
                        .page_logs("r", &filter, order, &request)
                        .await
                        .unwrap();
                    seen.extend(page.items);
                    let Some(next) = page.next else { break };
                    request = request.at(next);
                }
                assert_eq!(seen, expected);
            }
        }
        let unknown = cx
            .store
            .page_logs(
                "unknown",
                &LogFilter::new(),
                ListOrder::NewestFirst,
                &PageRequest::first(1),
            )
            .await
            .unwrap();
        assert!(unknown.items.is_empty());
    }

    async fn runs_are_found_by_their_ids(cx) {
        for (id, second) in [("a", 3), ("b", 2), ("c", 1)] {
            let run = running_at(id, second).label("env", if id == "b" { "test" } else { "prod" });
            cx.store.start_run(&run).await.unwrap();
        }
        let ids = ["a", "unknown", "", "c", "b", "a"].map(str::to_owned);
        for (query, expected) in [
            (RunQuery::new(), &["c", "b", "a"][..]),
            (RunQuery::new().label("env", "prod"), &["c", "a"]),
            (RunQuery::new().except_label("env", ["prod"]), &["b"]),
            (RunQuery::new().label_in("env", Vec::<String>::new()), &[]),
        ] {
            let found = cx.store.find_runs(&ids, &query).await.unwrap();
            let found: Vec<_> = found.iter().map(|run| run.id.as_str()).collect();
            assert_eq!(found, expected, "{query:?}");
        }
        assert_eq!(cx.store.find_runs(&[], &RunQuery::new()).await.unwrap(), []);
        let too_long = ["x".repeat(256)];
        assert_invalid(cx.store.find_runs(&too_long, &RunQuery::new()).await, "run_id");
        let invalid = RunQuery::new().has_label("a b");
        assert_invalid(cx.store.find_runs(&ids, &invalid).await, "label_key");
    }
}
