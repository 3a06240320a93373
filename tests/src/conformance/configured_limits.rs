use runtrail_audit::{Limits, SkillRun, SkillRunLog, Storage};
use runtrail_store::AuditStore;
use serde_json::json;

use crate::fixture::*;

const MIB: usize = 1 << 20;

/// Returns an event whose payload has this many bytes as JSON text, including its quotes.
fn event_of(bytes: usize) -> SkillRunLog {
    with(event("r", 0), |event| {
        event.payload = json!("x".repeat(bytes - 2))
    })
}

/// Returns a run whose inputs have this many bytes as JSON text, including `{"a":""}`.
fn run_of(bytes: usize) -> SkillRun {
    running("r").inputs(object(json!({ "a": "x".repeat(bytes - 8) })))
}

on_each_backend! {
    async fn the_limit_can_be_raised_to_sixteen_mebibytes(database) {
        let limits = Limits::new(16 * MIB).unwrap();
        let store = AuditStore::connect(database.url())
            .await
            .unwrap()
            .with_limits(limits);
        store.initialize().await.unwrap();
        store.start_run(&run_of(16 * MIB)).await.unwrap();
        assert_eq!(
            store.get_run("r").await.unwrap().inputs,
            run_of(16 * MIB).inputs
        );
        let expected = ("payload", 16 * MIB + 1, 16 * MIB);
        assert_too_large(store.append_log(&event_of(16 * MIB + 1)).await, expected);
    }

    async fn the_limit_can_be_lowered(database) {
        let limits = Limits::new(100).unwrap();
        let store = AuditStore::connect(database.url())
            .await
            .unwrap()
            .with_limits(limits);
        store.initialize().await.unwrap();
        assert_too_large(store.start_run(&run_of(101)).await, ("inputs", 101, 100));
        store.start_run(&run_of(100)).await.unwrap();
    }
}

#[test]
fn a_limit_above_sixteen_mebibytes_is_refused() {
    assert_invalid(Limits::new(16 * MIB + 1), "value_bytes");
}
