use futures_util::TryStreamExt;
use runtrail_audit::{
    Bounds, BulkStorage, Cursor, CursorPage, ErrorKind, LogFilter, Order, Page, PageRequest,
    PagedStorage, Parent, RunQuery, RunStatus, RunSummary, SkillRun, SkillRunLog, Storage,
};
use runtrail_store::AuditStore;

use crate::fixture::*;

const ORDERS: [Order; 2] = [Order::NewestFirst, Order::OldestFirst];

/// Many runs, most of them started at the same few moments, and some with a parent that isn't stored.
async fn many_runs(store: &AuditStore) -> Vec<SkillRun> {
    let mut runs = Vec::new();
    for number in 0..60 {
        let seconds = number % 7;
        let run = SkillRun {
            skill_id: format!("skill-{}", number % 5),
            caller_id: format!("caller-{}", number % 4),
            channel_id: format!("channel-{}", number % 3),
            parent_run_id: match number % 6 {
                0 => None,
                1 => Some("purged".into()),
                parent => Some(format!("run-{parent:02}")),
            },
            status: [
                RunStatus::OK,
                RunStatus::ERROR,
                RunStatus::TIMEOUT,
                RunStatus::DRY_RUN,
            ][number % 4]
                .clone(),
            finished_at: (number % 8 > 0).then(|| at(100 + number as i64)),
            runtime_seconds: number as f64 / 4.0,
            total_input_tokens: number as u64,
            total_output_tokens: 10,
            total_thinking_tokens: number as u64 % 2,
            ..running_at(&format!("run-{number:02}"), seconds as i64)
        };
        store.start_run(&run).await.unwrap();
        runs.push(run);
    }
    runs.sort_by(|left, right| (right.started_at, &right.id).cmp(&(left.started_at, &left.id)));
    runs
}

/// What a query takes of all that are stored, said once more.
fn takes(query: &RunQuery, run: &SkillRun, stored: &[SkillRun]) -> bool {
    fn is_in<T: PartialEq>(only: &[T], except: &[T], value: &T) -> bool {
        (only.is_empty() || only.contains(value)) && !except.contains(value)
    }
    fn is_within<T: PartialOrd>(bounds: &Bounds<T>, value: &T) -> bool {
        bounds.from.as_ref().is_none_or(|from| value >= from)
            && bounds.to.as_ref().is_none_or(|to| value <= to)
    }
    let any_time = query.finished == Bounds::default();
    is_in(&query.statuses.only, &query.statuses.except, &run.status)
        && is_in(&query.skills.only, &query.skills.except, &run.skill_id)
        && is_in(&query.callers.only, &query.callers.except, &run.caller_id)
        && is_in(
            &query.channels.only,
            &query.channels.except,
            &run.channel_id,
        )
        && match &query.parent {
            Parent::Any => true,
            Parent::None => run.parent_run_id.is_none(),
            Parent::NoneStored => !stored
                .iter()
                .any(|parent| Some(&parent.id) == run.parent_run_id.as_ref()),
            Parent::Run(id) => run.parent_run_id.as_ref() == Some(id),
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

async fn page(
    store: &AuditStore,
    query: &RunQuery,
    order: Order,
    request: PageRequest,
) -> CursorPage<SkillRun> {
    store.page_runs(query, order, &request).await.unwrap()
}

/// All runs of a query, from one page to the next.
async fn all(store: &AuditStore, query: &RunQuery, order: Order, limit: u64) -> Vec<SkillRun> {
    let mut request = PageRequest::first(limit);
    let mut runs = Vec::new();
    loop {
        let page = page(store, query, order, request.clone()).await;
        assert!(page.items.len() as u64 <= limit);
        runs.extend(page.items);
        if !page.has_more {
            return runs;
        }
        request.cursor = page.next;
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

cases_of_the_store! {
    async fn pages_go_through_all_runs_of_a_query_in_either_order(cx) {
        let runs = many_runs(cx.store).await;
        for query in queries() {
            let mut expected: Vec<_> = runs.iter().filter(|run| takes(&query, run, &runs)).cloned().collect();
            for limit in [1, 7, 1_000] {
                assert_eq!(all(cx.store, &query, Order::NewestFirst, limit).await, expected, "{query:?}");
            }
            assert_eq!(cx.store.count_runs_by_query(&query).await.unwrap(), expected.len() as u64, "{query:?}");
            let (newest_three, page) = (&expected[..expected.len().min(3)], Page::first(3));
            let streamed: Vec<_> = cx.store.stream_runs_by_query(&query, Order::NewestFirst, page).try_collect().await.unwrap();
            assert_eq!(streamed, newest_three, "{query:?}");
            expected.reverse();
            let streamed: Vec<_> = cx.store.stream_runs_by_query(&query, Order::OldestFirst, Page::ALL).try_collect().await.unwrap();
            assert_eq!(streamed, expected, "{query:?}");
            assert_eq!(all(cx.store, &query, Order::OldestFirst, 7).await, expected, "{query:?}");
        }
    }

    async fn without_stored_parent_takes_runs_whose_parent_is_missing(cx) {
        let query = RunQuery::new().without_stored_parent();
        let taken = async || {
            let runs = all(cx.store, &query, Order::OldestFirst, 2).await;
            runs.into_iter().map(|run| run.id).collect::<Vec<_>>()
        };
        for run in [
            SkillRun { parent_run_id: None, ..finished_at("old", 1) },
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
        assert_eq!(taken().await, ["of a missing one", "of an empty name", "old", "top"]);
        cx.store.purge_older_than(at(2)).await.unwrap();
        assert_eq!(taken().await, ["of a missing one", "of an empty name", "of an old one", "top"]);
        cx.store.start_run(&running("missing")).await.unwrap();
        assert_eq!(taken().await, ["missing", "of an empty name", "of an old one", "top"]);
        let strictly = all(cx.store, &RunQuery::new().top_level_only(), Order::OldestFirst, 2).await;
        assert_eq!(ids(&strictly), ["missing", "top"]);
    }

    async fn pages_go_back_as_they_came(cx) {
        many_runs(cx.store).await;
        for order in ORDERS {
            let query = RunQuery::new();
            let mut pages = vec![page(cx.store, &query, order, PageRequest::first(7)).await];
            while let Some(last) = pages.last() && last.has_more {
                let next = PageRequest::first(7).at(last.next.clone().unwrap());
                pages.push(page(cx.store, &query, order, next).await);
            }
            while let Some(reached) = pages.pop() {
                let back = PageRequest::first(7).at(reached.previous.unwrap());
                let before = page(cx.store, &query, order, back).await;
                let expected = pages.last().map(|page| page.items.clone()).unwrap_or_default();
                assert_eq!(before.items, expected);
                assert_eq!(before.has_more, pages.len() > 1);
            }
        }
    }

    async fn what_comes_in_meanwhile_moves_no_page(cx) {
        let runs = many_runs(cx.store).await;
        let query = RunQuery::new().include_dry_run();
        let mut request = PageRequest::first(10);
        let mut seen = Vec::new();
        for number in 0.. {
            let page = page(cx.store, &query, Order::NewestFirst, request.clone()).await;
            seen.extend(page.items);
            cx.store.start_run(&running_at(&format!("newer-{number}"), 1_000)).await.unwrap();
            if !page.has_more {
                break;
            }
            request.cursor = page.next;
        }
        assert_eq!(seen, runs);
    }

    async fn the_end_of_a_list_goes_on_when_there_is_more(cx) {
        let query = RunQuery::new();
        for number in 0..3 {
            cx.store.start_run(&running_at(&format!("r-{number}"), number)).await.unwrap();
        }
        let end = page(cx.store, &query, Order::OldestFirst, PageRequest::first(10)).await;
        assert!(!end.has_more);
        let after = PageRequest::first(10).at(end.next.unwrap());
        let nothing = page(cx.store, &query, Order::OldestFirst, after).await;
        assert_eq!((nothing.items.len(), nothing.has_more, &nothing.previous), (0, false, &None));
        cx.store.start_run(&running_at("later", 10)).await.unwrap();
        let after = PageRequest::first(10).at(nothing.next.unwrap());
        assert_eq!(ids(&page(cx.store, &query, Order::OldestFirst, after).await.items), ["later"]);
    }

    async fn an_empty_list_has_a_page_without_cursors(cx) {
        let page = page(cx.store, &RunQuery::new(), Order::NewestFirst, PageRequest::default()).await;
        assert_eq!((page.items, page.next, page.previous, page.has_more), (vec![], None, None, false));
    }

    async fn a_cursor_of_another_list_is_refused(cx) {
        many_runs(cx.store).await;
        let query = RunQuery::new().skills(["skill-1", "skill-2"]);
        let first = page(cx.store, &query, Order::NewestFirst, PageRequest::first(2)).await;
        let request = PageRequest::first(2).at(first.next.unwrap());
        page(cx.store, &query, Order::NewestFirst, request.clone()).await;
        let same = RunQuery::new().skills(["skill-2", "skill-1", "skill-2"]);
        page(cx.store, &same, Order::NewestFirst, request.clone()).await;

        let another_order = cx.store.page_runs(&query, Order::OldestFirst, &request).await;
        assert_invalid(another_order, "cursor");
        for another in queries() {
            assert_invalid(cx.store.page_runs(&another, Order::NewestFirst, &request).await, "cursor");
        }
        let events = cx.store.page_logs("run-01", &LogFilter::new(), Order::NewestFirst, &request).await;
        assert_invalid(events, "cursor");
    }

    async fn a_damaged_cursor_is_refused(cx) {
        many_runs(cx.store).await;
        let query = RunQuery::new();
        let first = page(cx.store, &query, Order::NewestFirst, PageRequest::first(2)).await;
        let cursor = first.next.unwrap().to_string();
        let damaged = ["", "x", "-", "e30", "\0", "🙂", &cursor[1..], &cursor[..cursor.len() - 4], &format!("{cursor}{cursor}")];
        for text in damaged {
            let request = PageRequest::first(2).at(Cursor::from(text));
            assert_invalid(cx.store.page_runs(&query, Order::NewestFirst, &request).await, "cursor");
        }
    }

    async fn a_page_has_from_one_to_a_thousand_records(cx) {
        for limit in [0, 1_001, u64::MAX] {
            let request = PageRequest::first(limit);
            assert_invalid(cx.store.page_runs(&RunQuery::new(), Order::NewestFirst, &request).await, "limit");
        }
        page(cx.store, &RunQuery::new(), Order::NewestFirst, PageRequest::first(1_000)).await;
    }

    async fn values_that_no_run_can_have_are_refused_by_name(cx) {
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
            assert_invalid(cx.store.page_runs(&query, Order::NewestFirst, &PageRequest::first(1)).await, field);
        }
    }

    async fn a_prefix_is_compared_by_bytes_and_taken_as_it_is(cx) {
        let names = ["a", "a%", "a%b", "a_", "ab", "aB", "A", "a\u{10FFFF}", "a\u{10FFFF}b", "a\u{D7FF}", "a\u{E000}", "b", "é", "éa"];
        for id in names {
            cx.store.start_run(&running(id)).await.unwrap();
        }
        for prefix in ["a", "a%", "a_", "A", "a\u{10FFFF}", "a\u{D7FF}", "\u{10FFFF}", "é", "b", "aba"] {
            let runs = all(cx.store, &RunQuery::new().id_prefix(prefix), Order::NewestFirst, 3).await;
            let mut expected: Vec<&str> = names.into_iter().filter(|id| id.starts_with(prefix)).collect();
            expected.sort_by(|left, right| right.cmp(left));
            assert_eq!(ids(&runs), expected, "{prefix}");
        }
    }

    async fn the_tokens_of_a_run_may_add_up_to_more_than_a_number_holds(cx) {
        let run = SkillRun {
            total_input_tokens: i64::MAX as u64,
            total_output_tokens: i64::MAX as u64,
            total_thinking_tokens: i64::MAX as u64,
            ..finished_at("r", 1)
        };
        cx.store.start_run(&run).await.unwrap();
        let many = RunQuery::new().total_tokens(i64::MAX as u64..);
        assert_eq!(ids(&all(cx.store, &many, Order::NewestFirst, 5).await), ["r"]);
        let few = RunQuery::new().total_tokens(..=1_000);
        assert!(all(cx.store, &few, Order::NewestFirst, 5).await.is_empty());
    }

    async fn summaries_are_the_runs_without_their_texts_and_have_the_same_cursors(cx) {
        many_runs(cx.store).await;
        let query = RunQuery::new().except_skills(["skill-0"]);
        let mut request = PageRequest::first(9);
        loop {
            let page = page(cx.store, &query, Order::NewestFirst, request.clone()).await;
            let short = cx.store.page_run_summaries(&query, Order::NewestFirst, &request).await.unwrap();
            let expected: Vec<_> = page.items.iter().map(RunSummary::from).collect();
            assert_eq!(short.items, expected);
            assert_eq!((&short.next, &short.previous, short.has_more), (&page.next, &page.previous, page.has_more));
            if !page.has_more {
                break;
            }
            request.cursor = short.next;
        }
    }

    async fn pages_go_through_the_events_of_a_run_in_either_order(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.start_run(&running("other")).await.unwrap();
        for number in 0..40 {
            let event_type = if number % 3 == 0 { "third" } else { "message" };
            let event = SkillRunLog { event_type: event_type.into(), created_at: Some(at(7)), ..event("r", number * 10) };
            cx.store.append_log(&event).await.unwrap();
            cx.store.append_log(&SkillRunLog { run_id: "other".into(), ..event }).await.unwrap();
        }
        let events = cx.store.list_logs_by_run("r").await.unwrap();
        for filter in [LogFilter::new(), LogFilter::new().event_type("third"), LogFilter::new().after(195)] {
            for order in ORDERS {
                let mut expected: Vec<_> = events
                    .iter()
                    .filter(|event| filter.event_type.as_ref().is_none_or(|it| *it == event.event_type))
                    .filter(|event| filter.after.is_none_or(|after| event.sequence > after))
                    .cloned()
                    .collect();
                if order == Order::NewestFirst {
                    expected.reverse();
                }
                let mut request = PageRequest::first(6);
                let mut seen = Vec::new();
                loop {
                    let page = cx.store.page_logs("r", &filter, order, &request).await.unwrap();
                    seen.extend(page.items);
                    if !page.has_more {
                        break;
                    }
                    request.cursor = page.next;
                }
                assert_eq!(seen, expected);
            }
        }
        let unknown = cx.store.page_logs("unknown", &LogFilter::new(), Order::NewestFirst, &PageRequest::first(1)).await.unwrap();
        assert!(unknown.items.is_empty());
    }

    /// Clients store cursors for a long time, across versions of the library. These cursors must stay valid.
    async fn cursors_that_clients_keep_stay_valid(cx) {
        for number in 0..3 {
            cx.store.start_run(&running_at(&format!("r-{number}"), number)).await.unwrap();
            cx.store.append_log(&event("r-0", number as u64)).await.unwrap();
        }
        let every_part = RunQuery {
            parent: Parent::None,
            started: Bounds { from: Some(at(-9)), to: Some(at(9)) },
            ..RunQuery::new()
                .statuses(["running"])
                .except_skills(["x"])
                .callers(["caller"])
                .except_channels(["x"])
                .runtime_seconds(0.0..)
                .id_prefix("r-")
                .include_dry_run()
        };
        let mut cursors = Vec::new();
        for query in [RunQuery::new(), every_part] {
            let page = page(cx.store, &query, Order::NewestFirst, PageRequest::first(1)).await;
            cursors.push(page.next.unwrap());
        }
        let filter = LogFilter { event_type: Some("message".into()), after: None };
        for filter in [LogFilter::new(), filter] {
            let page = cx.store.page_logs("r-0", &filter, Order::OldestFirst, &PageRequest::first(1)).await.unwrap();
            cursors.push(page.next.unwrap());
        }
        let text: Vec<String> = cursors.iter().map(|cursor| format!("{cursor}\n")).collect();
        assert_golden_file("cursors.txt", &text.concat());
    }

    async fn pages_are_read_in_a_hosts_transaction_too(cx) {
        use sea_orm::TransactionTrait;

        let txn = cx.db.begin().await.unwrap();
        let store = cx.store.on(&txn);
        store.start_run(&running("r")).await.unwrap();
        let page = store.page_runs(&RunQuery::new(), Order::NewestFirst, &PageRequest::first(1)).await.unwrap();
        assert_eq!(ids(&page.items), ["r"]);
        txn.rollback().await.unwrap();
    }
}

#[test]
fn a_damaged_row_ends_no_page_and_hides_no_other() {
    run_on_own_store(Backend::Sqlite, async |cx| {
        for number in 0..9 {
            cx.store
                .start_run(&running_at(&format!("r-{number}"), number))
                .await
                .unwrap();
        }
        // The last of a page of three, so that the next one goes on from its key.
        cx.sql("UPDATE skill_runs SET started_at = 'a while ago' WHERE id = 'r-4'")
            .await;
        cx.sql("UPDATE skill_runs SET tool_calls = x'00ff' WHERE id = 'r-2'")
            .await;
        for order in ORDERS {
            let mut expected = vec!["r-0", "r-1", "r-3", "r-5", "r-6", "r-7", "r-8"];
            if order == Order::NewestFirst {
                expected.reverse();
            }
            for limit in 1..5 {
                assert_eq!(
                    ids(&all(cx.store, &RunQuery::new(), order, limit).await),
                    expected
                );
            }
        }
    });
}

#[test]
fn a_damaged_parent_is_stored() {
    run_on_own_store(Backend::Sqlite, async |cx| {
        for run in [
            running("top"),
            child("of a damaged one", "top"),
            child("of a missing one", "missing"),
            child("damaged", "top"),
        ] {
            cx.store.start_run(&run).await.unwrap();
        }
        cx.sql("UPDATE skill_runs SET started_at = 'a while ago', tool_calls = x'00ff' WHERE id = 'top'")
            .await;
        cx.sql("UPDATE skill_runs SET parent_run_id = x'00ff' WHERE id = 'damaged'")
            .await;
        let query = RunQuery::new().without_stored_parent();
        let readable = all(cx.store, &query, Order::NewestFirst, 1).await;
        assert_eq!(ids(&readable), ["of a missing one"]);
        // Both damaged ones are counted, as in every count.
        assert_eq!(cx.store.count_runs_by_query(&query).await.unwrap(), 3);
    });
}

#[test]
fn a_forged_cursor_is_refused_on_postgres() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    run_on_own_store(Backend::Postgres, async |cx| {
        many_runs(cx.store).await;
        let query = RunQuery::new();
        let first = page(cx.store, &query, Order::NewestFirst, PageRequest::first(1)).await;
        let token = URL_SAFE_NO_PAD
            .decode(first.next.unwrap().as_str())
            .unwrap();
        let token: serde_json::Value = serde_json::from_slice(&token).unwrap();
        for key in [
            serde_json::json!([{"t": "x"}, {"t": "y"}]),
            serde_json::json!([{"i": 1}, {"t": "\u{0}"}]),
            serde_json::json!([{"i": 1}, {"x": [0, 255]}]),
            serde_json::json!([{"f": 1}, {"i": 1}]),
            serde_json::json!([{"i": 1}]),
        ] {
            let mut forged = token.clone();
            forged["k"] = key;
            let cursor = Cursor::from(URL_SAFE_NO_PAD.encode(forged.to_string()));
            let result = cx
                .store
                .page_runs(
                    &query,
                    Order::NewestFirst,
                    &PageRequest::first(1).at(cursor),
                )
                .await;
            assert_kind(result, ErrorKind::InvalidInput);
        }
    });
}
