use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runtrail_audit::{BulkStorage, ErrorKind, Storage};
use runtrail_store::AuditStore;

use crate::fixture::*;

on_each_backend! {
    /// Another process starts the run between the insert that finds no run and the query for stored
    /// events.
    async fn a_conflict_in_a_run_started_meanwhile_does_not_prevent_the_other_events(database) {
        let other = Arc::new(database.store().await);
        let mut host = database.connection().await;
        let (begun, starting) = (Arc::new(AtomicBool::new(false)), Arc::clone(&other));
        let runtime = tokio::runtime::Handle::current();
        host.set_metric_callback(move |info| {
            if !info.statement.sql.starts_with("INSERT") || begun.swap(true, Ordering::Relaxed) {
                return;
            }
            let (starting, runtime) = (Arc::clone(&starting), runtime.clone());
            let start = move || {
                runtime.block_on(async {
                    starting.start_run(&running("r")).await.unwrap();
                    starting
                        .append_log(&with(event("r", 1), |event| {
                            event.event_type = "other".into()
                        }))
                        .await
                        .unwrap();
                })
            };
            std::thread::spawn(start).join().unwrap();
        });
        let store = AuditStore::new(host);
        store.verify_schema().await.unwrap();
        let refused = store
            .append_logs(&[event("r", 1), event("r", 2), event("unknown", 1)])
            .await;
        assert_kind(refused, ErrorKind::Conflict);
        let stored: Vec<_> = other
            .list_logs_by_run("r")
            .await
            .unwrap()
            .iter()
            .map(|event| event.sequence)
            .collect();
        assert_eq!(stored, [1, 2]);
    }
}
