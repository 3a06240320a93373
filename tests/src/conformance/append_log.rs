use runtrail_audit::{Clock, ErrorKind, SkillRunLog};
use serde_json::json;

use crate::fixture::*;

cases! {
    async fn an_event_is_read_back_as_written(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let event = SkillRunLog::new("r", 3, "tool_call", json!({"tool": "search", "arguments": [1, null]})).created_at(at(5));
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
        let payloads = [json!(null), json!(true), json!(-1.5), json!("text"), json!([]), json!({})];
        for (sequence, payload) in payloads.iter().enumerate() {
            let event = with(event("r", sequence as u64), |event| event.payload = payload.clone());
            cx.store.append_log(&event).await.unwrap();
        }
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        let stored: Vec<_> = stored.into_iter().map(|event| event.payload).collect();
        assert_eq!(stored, payloads);
    }

    async fn an_event_of_an_unknown_run_is_refused(cx) {
        assert_kind(cx.store.append_log(&event("r", 0)).await, ErrorKind::NotFound);
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
        let other = with(event("r", 0), |event| event.payload = json!({"text": "bye"}));
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

/// Reads the stored text, which an open transaction would hide.
mod stored {
    use runtrail_audit::{BulkStorage, Storage};

    use super::*;

    cases_on_own_connection! {
        /// serde_json sorts the keys here; in a host that enables `preserve_order`, it keeps their order.
        async fn the_same_event_with_its_keys_in_another_order_is_ok(cx) {
            const SORTED: &str = r#"{"a":1,"b":{"c":2,"d":3}}"#;
            const UNSORTED: &str = r#"{"b":{"d":3,"c":2},"a":1}"#;
            let event = with(event("r", 0), |event| event.payload = serde_json::from_str(UNSORTED).unwrap());
            assert_eq!(event.payload.to_string(), SORTED);
            cx.store.start_run(&running("r")).await.unwrap();
            cx.store.append_log(&event).await.unwrap();
            cx.sql(&format!("UPDATE skill_run_logs SET payload = '{UNSORTED}'")).await;

            cx.store.append_log(&event).await.unwrap();
            let stored: Vec<String> = fetch(cx.db, "SELECT payload FROM skill_run_logs").await;
            assert_eq!(stored, [UNSORTED]);
            let other = with(event, |event| event.payload = json!({"a": 1, "b": {"c": 2, "d": 4}}));
            assert_kind(cx.store.append_log(&other).await, ErrorKind::Conflict);
        }

        async fn the_same_start_with_its_inputs_in_another_order_is_ok(cx) {
            let run = finished_at("r", 1).inputs(object(json!({"a": 1, "b": 2})));
            cx.store.start_run(&run).await.unwrap();
            cx.sql(r#"UPDATE skill_runs SET inputs = '{"b":2,"a":1}'"#).await;
            cx.store.start_run(&run).await.unwrap();
            let stored: Vec<String> = fetch(cx.db, "SELECT inputs FROM skill_runs").await;
            assert_eq!(stored, [r#"{"b":2,"a":1}"#]);
        }
    }

    mod in_one_batch {
        use super::*;

        cases_of_the_store! {
            async fn the_same_events_with_their_keys_in_another_order_are_ok(cx) {
                cx.store.start_run(&running("r")).await.unwrap();
                let events = [0, 1].map(|sequence| with(event("r", sequence), |event| event.payload = json!({"a": 1, "b": 2})));
                cx.store.append_logs(&events).await.unwrap();
                cx.sql(r#"UPDATE skill_run_logs SET payload = '{"b":2,"a":1}'"#).await;
                cx.store.append_logs(&events).await.unwrap();
                let stored: Vec<String> = fetch(cx.db, "SELECT payload FROM skill_run_logs").await;
                assert_eq!(stored, [r#"{"b":2,"a":1}"#; 2]);
            }
        }
    }
}
