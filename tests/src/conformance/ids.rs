use std::collections::HashSet;
use std::thread;

use runtrail_audit::{ListOrder, PageRequest, PagedStorage, RunQuery, Storage, new_run_id};

use crate::fixture::*;

#[test]
fn new_ids_of_one_thread_are_in_ascending_order() {
    let ids: Vec<String> = (0..10_000).map(|_| new_run_id()).collect();
    assert!(ids.is_sorted_by(|left, right| left < right));
}

#[test]
fn new_ids_of_many_threads_are_distinct() {
    let threads = (0..8).map(|_| thread::spawn(|| (0..10_000).map(|_| new_run_id()).collect()));
    let threads: Vec<thread::JoinHandle<Vec<String>>> = threads.collect();
    let ids: HashSet<String> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(ids.len(), 80_000);
}

cases_of_the_store! {
    async fn runs_with_new_ids_are_listed_in_order_of_creation(cx) {
        let mut ids = Vec::new();
        for _ in 0..20 {
            // All at the same time by the store's clock.
            let run = running(&new_run_id());
            cx.store.start_run(&run).await.unwrap();
            ids.push(run.id);
        }
        let request = PageRequest::first(20);
        let page = cx.store.page_runs(&RunQuery::new(), ListOrder::OldestFirst, &request).await.unwrap();
        let listed: Vec<String> = page.items.into_iter().map(|run| run.id).collect();
        assert_eq!(listed, ids);
    }
}
