//! What the tables contain. A second connection reads it, so no case runs in an open transaction.

use chrono::{DateTime, TimeDelta};
use runtrail_audit::ErrorKind;
use serde_json::{Value, json};

use crate::fixture::*;

cases_on_own_connection! {
    /// serde_json sorts the keys here; in a host that enables `preserve_order`, it keeps their
    /// order.
    async fn the_same_event_with_its_keys_in_another_order_is_ok(cx) {
        const SORTED: &str = r#"{"a":1,"b":{"c":2,"d":3}}"#;
        const UNSORTED: &str = r#"{"b":{"d":3,"c":2},"a":1}"#;
        let event = with(event("r", 0), |event| {
            event.payload = serde_json::from_str(UNSORTED).unwrap()
        });
        assert_eq!(event.payload.to_string(), SORTED);
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event).await.unwrap();
        cx.sql(&format!("UPDATE skill_run_logs SET payload = '{UNSORTED}'"))
            .await;

        cx.store.append_log(&event).await.unwrap();
        let stored: Vec<String> = fetch(cx.db, "SELECT payload FROM skill_run_logs").await;
        assert_eq!(stored, [UNSORTED]);
        let other = with(event, |event| {
            event.payload = json!({"a": 1, "b": {"c": 2, "d": 4}})
        });
        assert_kind(cx.store.append_log(&other).await, ErrorKind::Conflict);
    }

    async fn the_same_start_with_its_inputs_in_another_order_is_ok(cx) {
        let run = finished_at("r", 1).inputs(object(json!({"a": 1, "b": 2})));
        cx.store.start_run(&run).await.unwrap();
        cx.sql(r#"UPDATE skill_runs SET inputs = '{"b":2,"a":1}'"#)
            .await;
        cx.store.start_run(&run).await.unwrap();
        let stored: Vec<String> = fetch(cx.db, "SELECT inputs FROM skill_runs").await;
        assert_eq!(stored, [r#"{"b":2,"a":1}"#]);
    }

    async fn json_is_stored_exactly_as_serde_json_serializes_it(cx) {
        let value: Value =
            serde_json::from_str(r#"{"n":[1e16,-0.0,0.1],"t":"a\u0000\u00e9"}"#).unwrap();
        let run = running("r").inputs(object(value.clone()));
        cx.store.start_run(&run).await.unwrap();
        let event = with(event("r", 0), |event| event.payload = value);
        cx.store.append_log(&event).await.unwrap();

        let expected = event.payload.to_string();
        assert!(
            expected.ends_with(r#"-0.0,0.1],"t":"a\u0000é"}"#),
            "{expected}"
        );
        let inputs: Vec<String> = fetch(cx.db, "SELECT inputs FROM skill_runs").await;
        assert_eq!(inputs, [expected.as_str()]);
        let payloads: Vec<String> = fetch(cx.db, "SELECT payload FROM skill_run_logs").await;
        assert_eq!(payloads, [expected]);
    }

    async fn times_are_stored_as_microseconds_since_the_epoch(cx) {
        let run = with(finished_at("r", 0), |run| {
            run.started_at = DateTime::UNIX_EPOCH + TimeDelta::nanoseconds(2_500_001_999)
        });
        let run = with(run, |run| {
            run.finished_at = Some(DateTime::UNIX_EPOCH - TimeDelta::microseconds(7))
        });
        cx.store.start_run(&run).await.unwrap();
        let event = event("r", 0).created_at(run.started_at);
        cx.store.append_log(&event).await.unwrap();

        assert_eq!(
            fetch::<i64>(cx.db, "SELECT started_at FROM skill_runs").await,
            [2_500_001]
        );
        assert_eq!(
            fetch::<i64>(cx.db, "SELECT finished_at FROM skill_runs").await,
            [-7]
        );
        assert_eq!(
            fetch::<i64>(cx.db, "SELECT created_at FROM skill_run_logs").await,
            [2_500_001]
        );
    }

    async fn absent_values_are_stored_as_null(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let nulls =
            "SELECT COUNT(*) FROM skill_runs WHERE finished_at IS NULL AND parent_run_id IS NULL";
        assert_eq!(fetch::<i64>(cx.db, nulls).await, [1]);
    }
}

mod batches {
    use runtrail_audit::{BulkStorage, Storage};

    use super::*;

    cases_of_the_store! {
        async fn the_same_events_with_their_keys_in_another_order_are_ok(cx) {
            cx.store.start_run(&running("r")).await.unwrap();
            let events = [0, 1].map(|sequence| {
                with(event("r", sequence), |event| {
                    event.payload = json!({"a": 1, "b": 2})
                })
            });
            cx.store.append_logs(&events).await.unwrap();
            cx.sql(r#"UPDATE skill_run_logs SET payload = '{"b":2,"a":1}'"#)
                .await;
            cx.store.append_logs(&events).await.unwrap();
            let stored: Vec<String> = fetch(cx.db, "SELECT payload FROM skill_run_logs").await;
            assert_eq!(stored, [r#"{"b":2,"a":1}"#; 2]);
        }

        async fn awkward_events_are_stored_the_same_in_a_batch_as_singly(cx) {
            cx.store.start_run(&running("many")).await.unwrap();
            cx.store.start_run(&running("single")).await.unwrap();
            let payloads = [
                json!(null),
                json!(true),
                json!(1e16),
                json!(-0.0),
                json!(f64::MAX),
                json!(u64::MAX),
                json!(i64::MIN),
                json!(""),
                json!("\u{0}"),
                json!("\\u0000"),
                json!("'; DROP TABLE skill_runs; --"),
                json!("$1 ? {}"),
                json!({"z": 1, "a": {"b": [1, [2.50, "\u{202E}"]]}}),
            ];
            let events_of = |run_id: &str| -> Vec<_> {
                let events = payloads.iter().zip(0..).map(|(payload, sequence)| {
                    with(event(run_id, sequence), |event| {
                        event.event_type = format!("type \"{sequence}\" \\ '");
                        event.payload = payload.clone();
                    })
                });
                events.collect()
            };
            cx.store.append_logs(&events_of("many")).await.unwrap();
            for event in events_of("single") {
                cx.store.append_log(&event).await.unwrap();
            }
            let texts = |run: &str| {
                format!(
                    "SELECT event_type || payload FROM skill_run_logs WHERE run_id = '{run}' \
                    ORDER BY sequence"
                )
            };
            let many: Vec<String> = fetch(cx.db, &texts("many")).await;
            assert_eq!(many, fetch::<String>(cx.db, &texts("single")).await);
            assert_eq!(many.len(), payloads.len());
        }
    }
}
