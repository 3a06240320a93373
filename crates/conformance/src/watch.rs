//! `Watch`: streams that continue with what is stored later.

use std::pin::pin;

use futures_util::{Stream, StreamExt, TryStreamExt};
use runtrail_audit::{
    Cursor, ErrorKind, LogFilter, Result, RunQuery, RunSummary, SkillRunLog, WatchStart, Watched,
};

use crate::support::*;

/// Returns the next item, which must not be an error.
async fn next<T>(stream: &mut (impl Stream<Item = Result<Watched<T>>> + Unpin)) -> Watched<T> {
    stream.next().await.unwrap().unwrap()
}

async fn all<T>(stream: impl Stream<Item = Result<Watched<T>>>) -> Vec<Watched<T>> {
    stream.try_collect().await.unwrap()
}

async fn error<T: std::fmt::Debug>(
    stream: impl Stream<Item = Result<Watched<T>>>,
) -> Result<Watched<T>> {
    let mut stream = pin!(stream);
    let item = stream.next().await.unwrap();
    assert!(
        stream.next().await.is_none(),
        "the stream continues after {item:?}"
    );
    item
}

fn sequences(events: &[Watched<SkillRunLog>]) -> Vec<u64> {
    events.iter().map(|event| event.item.sequence).collect()
}

fn keys(events: &[Watched<SkillRunLog>]) -> Vec<(&str, u64)> {
    let items = events.iter().map(|event| &event.item);
    items
        .map(|event| (event.run_id.as_str(), event.sequence))
        .collect()
}

fn after(cursor: &Cursor) -> WatchStart {
    WatchStart::After(cursor.clone())
}

fn state(run: &RunSummary) -> (&str, bool) {
    (&run.id, run.finished_at.is_some())
}

const FROM_BEGINNING: &WatchStart = &WatchStart::Beginning;

cases! {
    ($) History, watch_cases: watch

    async fn the_stored_events_of_a_finished_run_come_in_order_and_the_stream_ends(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for sequence in [3, 0, 2, 1] {
            cx.store.append_log(&event("r", sequence)).await.unwrap();
        }
        cx.store.finish_run("r", &stats()).await.unwrap();
        let events = all(cx.store.watch_logs("r", &LogFilter::new(), FROM_BEGINNING)).await;
        assert_eq!(sequences(&events), [0, 1, 2, 3]);
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        let watched: Vec<_> = events.into_iter().map(|event| event.item).collect();
        assert_eq!(watched, stored);
    }

    async fn events_arrive_as_they_are_stored_until_the_run_finishes(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        let mut events = cx.store.watch_logs("r", &LogFilter::new(), FROM_BEGINNING);
        assert_eq!(next(&mut events).await.item.sequence, 0);
        for sequence in 1..5 {
            cx.store.append_log(&event("r", sequence)).await.unwrap();
            assert_eq!(next(&mut events).await.item.sequence, sequence);
        }
        cx.store.append_logs(&[event("r", 5), event("r", 6)]).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(sequences(&all(events).await), [5, 6]);
    }

    async fn a_stream_continues_after_every_cursor(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for sequence in [0, 1, 4, 7, 8] {
            cx.store.append_log(&event("r", sequence)).await.unwrap();
        }
        cx.store.finish_run("r", &stats()).await.unwrap();
        let filter = LogFilter::new();
        let events = all(cx.store.watch_logs("r", &filter, FROM_BEGINNING)).await;
        for (index, event) in events.iter().enumerate() {
            let rest = all(cx.store.watch_logs("r", &filter, &after(&event.cursor))).await;
            assert_eq!(sequences(&rest), sequences(&events[index + 1..]));
        }
    }

    async fn an_event_of_another_writer_that_comes_late_is_delivered_once(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        cx.store.append_log(&event("r", 2)).await.unwrap();
        let filter = LogFilter::new();
        let mut events = cx.store.watch_logs("r", &filter, FROM_BEGINNING);
        assert_eq!(next(&mut events).await.item.sequence, 0);
        cx.store.append_log(&event("r", 1)).await.unwrap();
        assert_eq!(next(&mut events).await.item.sequence, 1);
        assert_eq!(next(&mut events).await.item.sequence, 2);
        // Nothing fills the gap soon enough.
        cx.store.append_log(&event("r", 6)).await.unwrap();
        let sixth = next(&mut events).await;
        assert_eq!(sixth.item.sequence, 6);
        cx.store.append_log(&event("r", 4)).await.unwrap();
        assert_eq!(next(&mut events).await.item.sequence, 4);
        cx.store.append_log(&event("r", 7)).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(sequences(&all(events).await), [7]);
        let rest = all(cx.store.watch_logs("r", &filter, &after(&sixth.cursor))).await;
        assert_eq!(sequences(&rest), [4, 7]);
    }

    async fn only_events_that_match_the_filter_arrive(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for sequence in 0..6 {
            let event = with(event("r", sequence), |event| {
                event.event_type = ["even", "odd"][sequence as usize % 2].to_owned();
            });
            cx.store.append_log(&event).await.unwrap();
        }
        let filter = LogFilter::new().event_type("odd").after(1);
        let mut events = cx.store.watch_logs("r", &filter, FROM_BEGINNING);
        let third = next(&mut events).await;
        assert_eq!(third.item.sequence, 3);
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(sequences(&all(events).await), [5]);
        let rest = all(cx.store.watch_logs("r", &filter, &after(&third.cursor))).await;
        assert_eq!(sequences(&rest), [5]);
    }

    async fn an_unknown_run_is_the_only_item(cx) {
        let filter = LogFilter::new();
        for run_id in ["nope", "r"] {
            let events = cx.store.watch_logs(run_id, &filter, FROM_BEGINNING);
            assert_kind(error(events).await, ErrorKind::NotFound);
            let events = cx.store.watch_tree_logs(run_id, &filter, FROM_BEGINNING);
            assert_kind(error(events).await, ErrorKind::NotFound);
        }
        let events = cx.store.watch_logs("", &filter, FROM_BEGINNING);
        assert_invalid(error(events).await, "run_id");
        let long = "x".repeat(256);
        let filter = LogFilter::new().event_type(long.as_str());
        let events = cx.store.watch_logs("r", &filter, FROM_BEGINNING);
        assert_invalid(error(events).await, "event_type");
        let query = RunQuery::new().skills([long]);
        assert_invalid(error(cx.store.watch_runs(&query, FROM_BEGINNING)).await, "skill_id");
    }

    async fn a_cursor_of_another_stream_is_refused(cx) {
        cx.store.start_run(&finished_at("r", 5)).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        let filter = LogFilter::new();
        let events = all(cx.store.watch_logs("r", &filter, FROM_BEGINNING)).await;
        let start = after(&events[0].cursor);
        let odd = LogFilter::new().event_type("odd");
        assert_invalid(error(cx.store.watch_logs("r", &odd, &start)).await, "cursor");
        assert_invalid(error(cx.store.watch_tree_logs("r", &filter, &start)).await, "cursor");
        assert_invalid(error(cx.store.watch_runs(&RunQuery::new(), &start)).await, "cursor");
        let start = WatchStart::After("not a cursor".into());
        assert_invalid(error(cx.store.watch_logs("r", &filter, &start)).await, "cursor");
    }

    async fn a_tree_includes_runs_that_start_later(cx) {
        cx.store.start_run(&running("root")).await.unwrap();
        cx.store.start_run(&child("child", "root")).await.unwrap();
        cx.store.start_run(&running("other")).await.unwrap();
        for run_id in ["root", "child", "other"] {
            cx.store.append_log(&event(run_id, 0)).await.unwrap();
        }
        let mut events = cx.store.watch_tree_logs("root", &LogFilter::new(), FROM_BEGINNING);
        let mut first = vec![next(&mut events).await, next(&mut events).await];
        first.sort_by(|left, right| left.item.run_id.cmp(&right.item.run_id));
        assert_eq!(keys(&first), [("child", 0), ("root", 0)]);

        cx.store.start_run(&child("grandchild", "child")).await.unwrap();
        cx.store.append_log(&event("grandchild", 0)).await.unwrap();
        assert_eq!(keys(&[next(&mut events).await]), [("grandchild", 0)]);
        // The tree outlives its root.
        cx.store.finish_run("root", &stats()).await.unwrap();
        cx.store.finish_run("child", &stats()).await.unwrap();
        cx.store.append_log(&event("grandchild", 1)).await.unwrap();
        assert_eq!(keys(&[next(&mut events).await]), [("grandchild", 1)]);
        cx.store.append_log(&event("grandchild", 2)).await.unwrap();
        cx.store.finish_run("grandchild", &stats()).await.unwrap();
        assert_eq!(keys(&all(events).await), [("grandchild", 2)]);
    }

    async fn the_stream_of_a_tree_continues_after_every_cursor(cx) {
        cx.store.start_run(&running("root")).await.unwrap();
        for number in 0..4 {
            let id = format!("child-{number}");
            let run = with(child(&id, "root"), |run| run.finished_at = Some(at(9 - number)));
            cx.store.start_run(&run).await.unwrap();
            cx.store.append_logs(&[event(&id, 1), event(&id, 2)]).await.unwrap();
        }
        cx.store.append_logs(&[event("root", 0), event("root", 7)]).await.unwrap();
        cx.store.finish_run("root", &stats()).await.unwrap();
        let filter = LogFilter::new();
        let events = all(cx.store.watch_tree_logs("root", &filter, FROM_BEGINNING)).await;
        assert_eq!(events.len(), 10);
        for (index, event) in events.iter().enumerate() {
            let start = after(&event.cursor);
            let rest = all(cx.store.watch_tree_logs("root", &filter, &start)).await;
            assert_eq!(keys(&rest), keys(&events[index + 1..]));
        }
    }

    async fn a_cursor_of_a_large_tree_stays_short(cx) {
        cx.store.start_run(&finished_at("root", 1_000)).await.unwrap();
        for number in 0..150 {
            let id = format!("child-{number:03}");
            let run = with(child(&id, "root"), |run| run.finished_at = Some(at(number)));
            cx.store.start_run(&run).await.unwrap();
            cx.store.append_log(&event(&id, 0)).await.unwrap();
        }
        let filter = LogFilter::new();
        let events = all(cx.store.watch_tree_logs("root", &filter, FROM_BEGINNING)).await;
        assert_eq!(events.len(), 150);
        for (index, event) in events.iter().enumerate().step_by(10) {
            assert!(event.cursor.as_str().len() < 4_000, "{}", event.cursor);
            let start = after(&event.cursor);
            let rest = all(cx.store.watch_tree_logs("root", &filter, &start)).await;
            assert_eq!(keys(&rest), keys(&events[index + 1..]));
        }
    }

    async fn runs_arrive_when_they_start_and_when_they_finish(cx) {
        cx.store.start_run(&running("stored")).await.unwrap();
        cx.store.start_run(&finished_at("finished", 5)).await.unwrap();
        let mut runs = cx.store.watch_runs(&RunQuery::new(), FROM_BEGINNING);
        let first = next(&mut runs).await;
        let second = next(&mut runs).await;
        assert_eq!(state(&first.item), ("finished", true));
        assert_eq!(state(&second.item), ("stored", false));
        cx.store.start_run(&running_at("new", 10)).await.unwrap();
        assert_eq!(state(&next(&mut runs).await.item), ("new", false));
        cx.store.finish_run("stored", &stats()).await.unwrap();
        let run = next(&mut runs).await.item;
        assert_eq!(state(&run), ("stored", true));
        assert_eq!(run.total_input_tokens, 11);
        // A repeated call changes nothing.
        cx.store.finish_run("stored", &stats()).await.unwrap();
        cx.store.finish_run("new", &stats()).await.unwrap();
        assert_eq!(state(&next(&mut runs).await.item), ("new", true));
    }

    async fn only_runs_that_match_the_query_arrive(cx) {
        let query = RunQuery::new().label("env", "prod").callers(["caller"]);
        let mut runs = cx.store.watch_runs(&query, FROM_BEGINNING);
        cx.store.start_run(&running("unlabelled")).await.unwrap();
        cx.store.start_run(&running("first").label("env", "prod")).await.unwrap();
        assert_eq!(next(&mut runs).await.item.id, "first");
        cx.store.start_run(&running("test").label("env", "test")).await.unwrap();
        let other = running("other").label("env", "prod").caller("someone else");
        cx.store.start_run(&other).await.unwrap();
        cx.store.start_run(&running("second").label("env", "prod")).await.unwrap();
        assert_eq!(next(&mut runs).await.item.id, "second");
    }

    async fn the_stream_of_runs_continues_after_every_cursor(cx) {
        for number in 0..5 {
            let run = running_at(&format!("run-{number}"), number);
            cx.store.start_run(&run).await.unwrap();
        }
        let query = RunQuery::new();
        let mut stream = cx.store.watch_runs(&query, FROM_BEGINNING);
        let mut runs = Vec::new();
        for _ in 0..5 {
            runs.push(next(&mut stream).await);
        }
        for number in 0..5 {
            cx.store.finish_run(&format!("run-{number}"), &stats()).await.unwrap();
            runs.push(next(&mut stream).await);
        }
        drop(stream);
        for (index, run) in runs.iter().enumerate().skip(5) {
            let mut rest = cx.store.watch_runs(&query, &after(&run.cursor));
            for expected in &runs[index + 1..] {
                assert_eq!(state(&next(&mut rest).await.item), state(&expected.item));
            }
        }
        // A run that has finished since then arrives once, as it is now.
        let mut rest = cx.store.watch_runs(&query, &after(&runs[2].cursor));
        let mut ids = Vec::new();
        for _ in 0..5 {
            let run = next(&mut rest).await.item;
            assert!(run.finished_at.is_some(), "{run:?}");
            ids.push(run.id);
        }
        ids.sort();
        assert_eq!(ids, ["run-0", "run-1", "run-2", "run-3", "run-4"]);
    }
}
