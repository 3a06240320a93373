//! Appending an event.

use runtrail_audit::{Clock, ErrorKind, SkillRunLog};
use serde_json::json;

use crate::support::*;

cases! {
    ($) Storage, append_log_cases: append_log

    async fn an_event_is_read_back_as_written(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let event = SkillRunLog::new(
            "r",
            3,
            "tool_call",
            json!({"tool": "search", "arguments": [1, null]}),
        )
        .created_at(at(5));
        cx.store.append_log(&event).await.unwrap();
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), [event]);
    }

    async fn an_event_without_a_time_gets_the_time_of_the_clock(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        let stored = event("r", 0).created_at(cx.clock.now());
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), [stored]);
    }

    async fn any_json_value_is_accepted_as_a_payload(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let payloads = [
            json!(null),
            json!(true),
            json!(-1.5),
            json!("text"),
            json!([]),
            json!({}),
        ];
        for (sequence, payload) in payloads.iter().enumerate() {
            let event = with(event("r", sequence as u64), |event| {
                event.payload = payload.clone()
            });
            cx.store.append_log(&event).await.unwrap();
        }
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        let stored: Vec<_> = stored.into_iter().map(|event| event.payload).collect();
        assert_eq!(stored, payloads);
    }

    async fn an_event_of_an_unknown_run_is_refused(cx) {
        assert_kind(
            cx.store.append_log(&event("r", 0)).await,
            ErrorKind::NotFound,
        );
        cx.store.start_run(&running("r")).await.unwrap();
        assert!(cx.store.list_logs_by_run("r").await.unwrap().is_empty());
    }

    async fn appending_the_same_event_again_is_ok_and_stores_it_once(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        cx.clock.advance(60);
        cx.store.append_log(&event("r", 0)).await.unwrap();
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), stored);
    }

    async fn an_event_of_another_type_is_a_conflict_and_the_first_stays(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        let other = with(event("r", 0), |event| event.event_type = "other".into());
        assert_kind(cx.store.append_log(&other).await, ErrorKind::Conflict);
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), stored);
    }

    async fn an_event_with_another_payload_is_a_conflict_and_the_first_stays(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        let other = with(event("r", 0), |event| {
            event.payload = json!({"text": "bye"})
        });
        assert_kind(cx.store.append_log(&other).await, ErrorKind::Conflict);
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), stored);
    }

    async fn a_finished_run_still_accepts_events(cx) {
        cx.store.start_run(&finished_at("r", 10)).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap().len(), 1);
    }

    async fn events_are_listed_in_order_of_sequence(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for sequence in [10, 2, 30, 0, 1] {
            cx.store.append_log(&event("r", sequence)).await.unwrap();
        }
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        let sequences: Vec<_> = stored.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, [0, 1, 2, 10, 30]);
    }

    async fn each_run_has_its_own_events(cx) {
        for run in ["r", "s"] {
            cx.store.start_run(&running(run)).await.unwrap();
            cx.store.append_log(&event(run, 0)).await.unwrap();
        }
        let stored = cx.store.list_logs_by_run("s").await.unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].run_id, "s");
    }

    async fn an_unknown_run_has_no_events(cx) {
        assert!(cx.store.list_logs_by_run("r").await.unwrap().is_empty());
    }

    async fn a_thousand_events_are_read_back(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for sequence in 0..1_000 {
            cx.store.append_log(&event("r", sequence)).await.unwrap();
        }
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        assert!(stored.iter().map(|event| event.sequence).eq(0..1_000));
    }
}
