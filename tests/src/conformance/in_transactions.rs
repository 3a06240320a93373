//! The extension traits inside a host's open transaction.

use runtrail_audit::{
    BulkStorage, ErrorKind, ListOrder, PageRequest, PagedStorage, RunQuery, Storage,
};
use sea_orm::TransactionTrait;

use crate::fixture::*;

cases_of_the_store! {
    async fn events_are_part_of_a_hosts_transaction(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let txn = cx.db.begin().await.unwrap();
        cx.store
            .on(&txn)
            .append_logs(&[event("r", 0), event("r", 1)])
            .await
            .unwrap();
        txn.rollback().await.unwrap();
        assert!(cx.store.list_logs_by_run("r").await.unwrap().is_empty());
        let txn = cx.db.begin().await.unwrap();
        let refused = [event("unknown", 0), event("r", 0)];
        assert_kind(
            cx.store.on(&txn).append_logs(&refused).await,
            ErrorKind::NotFound,
        );
        txn.commit().await.unwrap();
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap().len(), 1);
    }

    async fn pages_are_read_in_a_hosts_transaction(cx) {
        let txn = cx.db.begin().await.unwrap();
        let store = cx.store.on(&txn);
        store.start_run(&running("r")).await.unwrap();
        let page = store
            .page_runs(
                &RunQuery::new(),
                ListOrder::NewestFirst,
                &PageRequest::first(1),
            )
            .await
            .unwrap();
        assert_eq!(ids(&page.items), ["r"]);
        txn.rollback().await.unwrap();
    }
}
