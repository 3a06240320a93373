//! Appending many events.

use std::time::Duration;

use futures_util::TryStreamExt;
use runtrail_audit::{Clock, ErrorKind, ListOrder, LogFilter, SkillRunLog, Usage};
use serde_json::json;

use crate::support::*;

fn numbered(run_id: &str, sequences: std::ops::Range<u64>) -> Vec<SkillRunLog> {
    let event = |sequence| {
        with(event(run_id, sequence), |event| {
            event.payload = json!({"number": sequence, "text": "a\u{0}b \u{1F600} \"quoted\" \\"});
            event.created_at = Some(at(sequence as i64));
        })
    };
    sequences.map(event).collect()
}

cases! {
    ($) History, append_logs_cases: append_logs

    async fn many_events_are_read_back_as_written(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.start_run(&running("other")).await.unwrap();
        let events = numbered("r", 0..2_500);
        let others = numbered("other", 5..10);
        cx.store
            .append_logs(&[&events[..], &others[..]].concat())
            .await
            .unwrap();
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), events);
        assert_eq!(cx.store.list_logs_by_run("other").await.unwrap(), others);
    }

    async fn events_with_and_without_a_usage_are_read_back_as_written(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let with_usage = |mut event: SkillRunLog| {
            let sequence = event.sequence;
            if sequence.is_multiple_of(3) {
                event = event.duration(Duration::from_micros(sequence));
            }
            if sequence.is_multiple_of(2) {
                let usage = Usage::new().model("model \"m\"").input_tokens(sequence);
                event = event.usage(usage);
            }
            event
        };
        let events: Vec<_> = numbered("r", 0..250).into_iter().map(with_usage).collect();
        cx.store.append_logs(&events).await.unwrap();
        cx.store.append_logs(&events).await.unwrap();
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), events);

        let without_usage = numbered("r", 0..250);
        assert_kind(
            cx.store.append_logs(&without_usage).await,
            ErrorKind::Conflict,
        );
        let invalid = event("r", 1_001).usage(Usage::new().model(""));
        assert_invalid(
            cx.store.append_logs(&[event("r", 1_000), invalid]).await,
            "model",
        );
        let after = LogFilter::new().after(200);
        let streamed = cx.store.stream_logs("r", &after, ListOrder::OldestFirst);
        let streamed: Vec<_> = streamed.try_collect().await.unwrap();
        assert_eq!(streamed, events[201..]);
    }

    async fn appending_no_events_is_ok(cx) {
        cx.store.append_logs(&[]).await.unwrap();
    }

    async fn events_without_a_time_get_the_time_of_the_clock(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store
            .append_logs(&[event("r", 0), event("r", 1)])
            .await
            .unwrap();
        for stored in cx.store.list_logs_by_run("r").await.unwrap() {
            assert_eq!(stored.created_at, Some(cx.clock.now()));
        }
    }

    async fn appending_the_same_events_again_is_ok_and_stores_them_once(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let events = numbered("r", 0..10);
        cx.store.append_logs(&events[..6]).await.unwrap();
        cx.store.append_logs(&events).await.unwrap();
        cx.store.append_logs(&events).await.unwrap();
        let twice = [&events[..], &events[..]].concat();
        cx.store.append_logs(&twice).await.unwrap();
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), events);
    }

    async fn a_conflict_does_not_prevent_the_other_events(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event("r", 1_500)).await.unwrap();
        let events = numbered("r", 0..3_000);
        let err = assert_kind(cx.store.append_logs(&events).await, ErrorKind::Conflict);
        assert!(err.to_string().contains("event 1500 of run \"r\""), "{err}");
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        assert_eq!(stored.len(), 3_000);
        assert_eq!(stored[1_500].payload, event("r", 1_500).payload);
        assert_eq!(stored[2_999], events[2_999]);
    }

    async fn contradictions_within_one_call_are_a_conflict(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let other = with(event("r", 0), |event| event.payload = json!("other"));
        assert_kind(
            cx.store.append_logs(&[event("r", 0), other]).await,
            ErrorKind::Conflict,
        );
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap().len(), 1);
    }

    async fn events_of_an_unknown_run_are_refused_and_the_others_stored(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let events = [event("r", 0), event("unknown", 0), event("r", 1)];
        let err = assert_kind(cx.store.append_logs(&events).await, ErrorKind::NotFound);
        assert!(err.to_string().contains("unknown"), "{err}");
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap().len(), 2);
        assert!(
            cx.store
                .list_logs_by_run("unknown")
                .await
                .unwrap()
                .is_empty()
        );
    }

    async fn one_invalid_event_prevents_the_whole_batch(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let invalid = with(event("r", 1), |event| event.event_type = "a\0b".into());
        assert_invalid(
            cx.store.append_logs(&[event("r", 0), invalid]).await,
            "event_type",
        );
        let large = with(event("r", 1), |event| {
            event.payload = json!("x".repeat(1 << 20))
        });
        assert_kind(
            cx.store.append_logs(&[event("r", 0), large]).await,
            ErrorKind::TooLarge,
        );
        assert!(cx.store.list_logs_by_run("r").await.unwrap().is_empty());
    }

    async fn large_events_are_stored_in_several_statements(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let large = |sequence| {
            with(event("r", sequence), |event| {
                event.payload = json!("\u{1}".repeat((1 << 20) / 6 - 10))
            })
        };
        let events: Vec<_> = (0..9).map(large).collect();
        cx.store.append_logs(&events).await.unwrap();
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        assert!(
            stored
                .iter()
                .map(|event| &event.payload)
                .eq(events.iter().map(|event| &event.payload))
        );
    }
}
