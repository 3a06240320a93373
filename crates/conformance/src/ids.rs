//! New ids.

use runtrail_audit::{ListOrder, PageRequest, RunQuery, new_run_id};

use crate::support::*;

cases! {
    ($) History, ids_cases: ids

    async fn runs_with_new_ids_are_listed_in_order_of_creation(cx) {
        let mut ids = Vec::new();
        for _ in 0..20 {
            // All start at the same time.
            let run = running(&new_run_id());
            cx.store.start_run(&run).await.unwrap();
            ids.push(run.id);
        }
        let request = PageRequest::first(20);
        let page = cx
            .store
            .page_runs(&RunQuery::new(), ListOrder::OldestFirst, &request)
            .await
            .unwrap();
        let listed: Vec<String> = page.items.into_iter().map(|run| run.id).collect();
        assert_eq!(listed, ids);
    }
}
