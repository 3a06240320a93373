//! JSON values.

use serde_json::{Value, json};

use crate::support::*;

/// Values that a JSON column of SQLite or PostgreSQL would change, refuse or fail to return.
fn awkward() -> Vec<&'static str> {
    vec![
        r#"{"b":1,"a":2}"#,
        "[1e16,-0.0,1.7976931348623157e308,5e-324,1e-7]",
        "[18446744073709551615,-9223372036854775808,9007199254740993]",
        "[0.1,0.2,0.30000000000000004,1.0,100.0,123456789.12345679]",
        r#"["a\u0000b","\u0001","\ud83d\ude00","é","\u2028","\"","\\","/"]"#,
        r#"{"":"","a\u0000":null,"a b":[[],{}]}"#,
        r#""'); DROP TABLE skill_runs; --""#,
    ]
}

/// Returns a value that is nested this many levels deep.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, level| {
        if level % 2 == 0 {
            json!([inner])
        } else {
            json!({ "a": inner })
        }
    })
}

/// A very deep value. It is dropped level by level, since a recursive drop would overflow the
/// stack.
struct DeepValue(Value);

impl Drop for DeepValue {
    fn drop(&mut self) {
        while let Value::Array(items) = &mut self.0 {
            self.0 = items.pop().unwrap_or_default();
        }
    }
}

cases! {
    ($) Storage, json_cases: json

    async fn awkward_payloads_are_read_back_unchanged(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for (sequence, text) in awkward().into_iter().enumerate() {
            let payload: Value = serde_json::from_str(text).unwrap();
            let event = with(event("r", sequence as u64), |event| {
                event.payload = payload.clone()
            });
            cx.store.append_log(&event).await.unwrap();
            let stored = cx.store.list_logs_by_run("r").await.unwrap();
            assert_eq!(stored.last().unwrap().payload, payload, "{text}");
            cx.store.append_log(&event).await.unwrap();
        }
    }

    async fn awkward_inputs_are_read_back_unchanged(cx) {
        for (number, text) in awkward().into_iter().enumerate() {
            let value: Value = serde_json::from_str(text).unwrap();
            let run = running(&number.to_string()).inputs(object(json!({ "value": value })));
            cx.store.start_run(&run).await.unwrap();
            assert_eq!(cx.store.get_run(&run.id).await.unwrap(), run, "{text}");
        }
    }

    /// A fast, imprecise parser would get the last bit of some of them wrong.
    async fn ten_thousand_random_floats_are_read_back_to_the_last_bit(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let bits = std::iter::successors(Some(1_u64), |bits| {
            Some(
                bits.wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            )
        });
        let floats: Vec<f64> = bits
            .map(f64::from_bits)
            .filter(|float| float.is_finite())
            .take(10_000)
            .collect();
        let event = with(event("r", 0), |event| event.payload = json!(floats));
        cx.store.append_log(&event).await.unwrap();
        assert_eq!(
            cx.store.list_logs_by_run("r").await.unwrap()[0].payload,
            event.payload
        );
        cx.store.append_log(&event).await.unwrap();
    }

    async fn json_of_64_levels_is_accepted(cx) {
        let run = running("r").inputs(object(json!({ "a": nested(63) })));
        cx.store.start_run(&run).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
        let event = with(event("r", 0), |event| event.payload = nested(64));
        cx.store.append_log(&event).await.unwrap();
        assert_eq!(
            cx.store.list_logs_by_run("r").await.unwrap()[0].payload,
            nested(64)
        );
    }

    async fn json_of_65_levels_is_refused(cx) {
        let run = running("r").inputs(object(json!({ "a": nested(64) })));
        assert_invalid(cx.store.start_run(&run).await, "inputs");
        cx.store.start_run(&running("r")).await.unwrap();
        let event = with(event("r", 0), |event| event.payload = nested(65));
        assert_invalid(cx.store.append_log(&event).await, "payload");
        assert!(cx.store.list_logs_by_run("r").await.unwrap().is_empty());
    }

    async fn json_deep_enough_to_overflow_the_stack_is_refused(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let deep = (0..1_000_000).fold(json!(1), |inner, _| Value::Array(vec![inner]));
        let mut event = with(event("r", 0), |event| event.payload = deep);
        let refused = cx.store.append_log(&event).await;
        drop(DeepValue(event.payload.take()));
        assert_invalid(refused, "payload");
    }
}
