//! Streams.

use futures_util::{StreamExt, TryStreamExt};
use runtrail_audit::{
    Error, History, ListOrder, LogFilter, Page, Result, RunFilter, RunStatus, SkillRun, SkillRunLog,
};

use crate::support::*;

async fn runs(
    store: &(impl History + ?Sized),
    filter: &RunFilter,
    order: ListOrder,
    page: Page,
) -> Vec<SkillRun> {
    store
        .stream_runs(filter, order, page)
        .try_collect()
        .await
        .unwrap()
}

async fn events(
    store: &(impl History + ?Sized),
    filter: &LogFilter,
    order: ListOrder,
) -> Vec<SkillRunLog> {
    store
        .stream_logs("r", filter, order)
        .try_collect()
        .await
        .unwrap()
}

/// Starts many runs at only three different times.
#[doc(hidden)]
pub async fn many_runs(store: &(impl History + ?Sized)) {
    for number in 0..130 {
        let run = with(running_at(&format!("run-{number:03}"), number % 3), |run| {
            run.skill_id = if number % 2 == 0 { "even" } else { "odd" }.into();
            run.status = if number % 10 == 0 {
                RunStatus::DRY_RUN
            } else {
                RunStatus::OK
            };
        });
        store.start_run(&run).await.unwrap();
    }
}

#[doc(hidden)]
pub fn damaged<T>(records: &[Result<T>]) -> Vec<&Error> {
    records
        .iter()
        .filter_map(|record| record.as_ref().err())
        .collect()
}

cases! {
    ($) History, streams_cases: streams

    async fn a_stream_polled_after_its_end_stays_ended(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let mut runs = cx
            .store
            .stream_runs(&RunFilter::new(), ListOrder::OldestFirst, Page::ALL);
        assert!(runs.next().await.is_some());
        let mut events = cx
            .store
            .stream_logs("r", &LogFilter::new(), ListOrder::OldestFirst);
        for _ in 0..3 {
            assert!(runs.next().await.is_none());
            assert!(events.next().await.is_none());
        }
    }

    async fn a_stream_of_runs_matches_the_list_in_both_orders(cx) {
        many_runs(cx.store).await;
        for filter in [
            RunFilter::new(),
            RunFilter::new().include_dry_run(),
            RunFilter::new().skill("odd").since(at(1)),
            RunFilter::new().skill("neither"),
        ] {
            let mut listed = cx
                .store
                .list_runs_filtered(&filter, Page::ALL)
                .await
                .unwrap();
            assert_eq!(
                runs(cx.store, &filter, ListOrder::NewestFirst, Page::ALL).await,
                listed
            );
            listed.reverse();
            assert_eq!(
                runs(cx.store, &filter, ListOrder::OldestFirst, Page::ALL).await,
                listed
            );
        }
    }

    async fn a_page_of_a_stream_matches_the_page_of_the_list(cx) {
        many_runs(cx.store).await;
        let filter = RunFilter::new();
        for page in [
            Page::first(0),
            Page::first(1),
            Page::first(25),
            Page::first(26),
            Page::first(60).skip(30),
            Page::ALL.skip(100),
            Page::ALL.skip(1_000),
            Page::first(u64::MAX).skip(u64::MAX),
        ] {
            let listed = cx.store.list_runs_filtered(&filter, page).await.unwrap();
            assert_eq!(
                runs(cx.store, &filter, ListOrder::NewestFirst, page).await,
                listed,
                "{page:?}"
            );
        }
    }

    async fn a_stream_of_runs_is_stable_while_runs_are_written(cx) {
        many_runs(cx.store).await;
        let filter = RunFilter::new();
        let mut stream = cx
            .store
            .stream_runs(&filter, ListOrder::NewestFirst, Page::ALL);
        let mut seen = Vec::new();
        while let Some(run) = stream.try_next().await.unwrap() {
            if seen.len() % 20 == 0 {
                let newer = running_at(&format!("newer-{}", seen.len()), 100);
                cx.store.start_run(&newer).await.unwrap();
            }
            seen.push(run.id);
        }
        assert_eq!(seen.len(), 117);
        assert!(seen.iter().all(|id| id.starts_with("run-")));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 117);
    }

    async fn events_are_streamed_in_order_of_sequence(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.start_run(&running("other")).await.unwrap();
        let written: Vec<_> = (0..350).map(|number| event("r", number * 3)).collect();
        cx.store.append_logs(&written).await.unwrap();
        cx.store.append_log(&event("other", 1)).await.unwrap();
        let mut listed = cx.store.list_logs_by_run("r").await.unwrap();
        assert_eq!(listed.len(), 350);
        assert_eq!(
            events(cx.store, &LogFilter::new(), ListOrder::OldestFirst).await,
            listed
        );
        listed.reverse();
        assert_eq!(
            events(cx.store, &LogFilter::new(), ListOrder::NewestFirst).await,
            listed
        );
    }

    async fn events_can_be_streamed_by_type_and_after_a_sequence(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let typed = |number: u64| {
            with(event("r", number), |event| {
                event.event_type = if number.is_multiple_of(2) {
                    "even"
                } else {
                    "odd"
                }
                .into()
            })
        };
        cx.store
            .append_logs(&(0..300).map(typed).collect::<Vec<_>>())
            .await
            .unwrap();
        let filter = LogFilter::new().event_type("odd").after(201);
        for order in [ListOrder::OldestFirst, ListOrder::NewestFirst] {
            let mut sequences: Vec<_> = events(cx.store, &filter, order)
                .await
                .iter()
                .map(|event| event.sequence)
                .collect();
            if order == ListOrder::NewestFirst {
                sequences.reverse();
            }
            assert_eq!(sequences, (203..300).step_by(2).collect::<Vec<_>>());
        }
        let none = LogFilter::new().after(i64::MAX as u64);
        assert!(
            events(cx.store, &none, ListOrder::OldestFirst)
                .await
                .is_empty()
        );
    }

    async fn an_unknown_run_streams_no_events(cx) {
        assert!(
            events(cx.store, &LogFilter::new(), ListOrder::OldestFirst)
                .await
                .is_empty()
        );
    }

    async fn a_stream_of_an_invalid_request_yields_one_error_and_ends(cx) {
        let long = "x".repeat(256);
        let filter = RunFilter::new().skill(long.as_str());
        let stream = cx
            .store
            .stream_runs(&filter, ListOrder::NewestFirst, Page::ALL);
        let mut items: Vec<_> = stream.collect().await;
        assert_eq!(items.len(), 1);
        assert_invalid(items.remove(0), "skill_id");

        let beyond = LogFilter::new().after(u64::MAX);
        let typed = LogFilter::new().event_type("\0");
        for (run_id, filter, field) in [
            ("", &LogFilter::new(), "run_id"),
            ("r", &beyond, "after"),
            ("r", &typed, "event_type"),
        ] {
            let stream = cx.store.stream_logs(run_id, filter, ListOrder::OldestFirst);
            let mut items: Vec<_> = stream.collect().await;
            assert_eq!(items.len(), 1);
            assert_invalid(items.remove(0), field);
        }
    }
}
