use runtrail_audit::{Limits, Storage};
use runtrail_conformance::limits::{MIB, event_of, run_of};
use runtrail_store::AuditStore;

use crate::fixture::*;

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
