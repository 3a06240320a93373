use std::time::Duration;

use futures_util::StreamExt;
use runtrail_audit::{
    Amount, Budget, BudgetPeriod, BudgetScope, Budgets, BulkStorage, ErrorKind, ListOrder,
    LogFilter, Owner, Ownership, Page, PageRequest, PagedStorage, ReservationRequest, Retention,
    RunCreation, RunFilter, RunLabels, RunLookup, RunQuery, RunTree, Spending, StagedRecord,
    Staging, Statistics, StatisticsQuery, Storage, UsageTotals, Watch, WatchStart,
};
use runtrail_db::DatabaseOptions;
use runtrail_store::AuditStore;
use serde_json::json;
use tokio::time::timeout;

use crate::fixture::*;
use crate::migrations::schema_checks::{assert_every_method_refuses, methods_of_a_store};

on_each_backend! {
    async fn every_call_and_every_statement_has_a_span_without_values(database) {
        let mut child = test_command("durability::spans::child_that_logs_spans");
        let output = child.env(CHILD_URL, database.url()).output().unwrap();
        assert!(output.status.success(), "{}", printed(&output));
    }

    async fn statements_are_logged_on_request(database) {
        let mut child = test_command("durability::spans::child_that_logs_statements");
        let output = child.env(CHILD_URL, database.url()).output().unwrap();
        assert!(output.status.success(), "{}", printed(&output));
    }
}

/// Calls the methods that read, and those that write many rows, with these values.
async fn call_every_method(store: &AuditStore, id: &str, text: &str) {
    let filter = RunFilter::new().skill(text).caller(text).channel(text);
    let query = RunQuery::new().skills([text]).callers([text]).id_prefix(id);
    let (newest, first) = (ListOrder::NewestFirst, PageRequest::first(1));
    let events = LogFilter::new().event_type(text);
    let ids = [id.to_owned()];
    store
        .create_run(&running(&format!("new-{id}")))
        .await
        .unwrap();
    store
        .append_logs(&[event(id, 1), event(id, 2)])
        .await
        .unwrap();
    store.list_logs_by_run(id).await.unwrap();
    store.list_runs_by_skill(text, None).await.unwrap();
    store
        .list_runs_by_skill_paginated(text, Page::first(1), true)
        .await
        .unwrap();
    store.count_runs_by_skill(text, true).await.unwrap();
    store.list_runs_by_caller(text, None).await.unwrap();
    store.list_runs_filtered(&filter, Page::ALL).await.unwrap();
    store.count_runs_filtered(&filter).await.unwrap();
    store.list_children_by_parent(id).await.unwrap();
    store.walk_parent_chain(id).await.unwrap();
    store.list_finished_runs_before(at(0), None).await.unwrap();
    store
        .last_run_by_skills(&[text.to_owned()], true)
        .await
        .unwrap();
    store.list_children(id).await.unwrap();
    store.list_subtree(id).await.unwrap();
    store.subtree_totals(&ids, &query, 1).await.unwrap();
    store.measure_purge(at(0)).await.unwrap();
    store.find_run_ids(id, "", 1).await.unwrap();
    store.adjacent_run_ids(&ids).await.unwrap();
    store.find_runs(&ids, &query).await.unwrap();
    store.list_ancestors(id).await.unwrap();
    store.count_children(id).await.unwrap();
    let page = store
        .page_runs(&RunQuery::new(), newest, &first)
        .await
        .unwrap();
    let next = first.clone().at(page.end_cursor);
    store
        .page_runs(&RunQuery::new(), newest, &next)
        .await
        .unwrap();
    store
        .page_run_summaries(&query, newest, &first)
        .await
        .unwrap();
    store.count_runs_by_query(&query).await.unwrap();
    store.page_logs(id, &events, newest, &first).await.unwrap();
    let _: Vec<_> = store
        .stream_runs_by_query(&query, newest, Page::ALL)
        .collect()
        .await;
    let _: Vec<_> = store.stream_logs(id, &events, newest).collect().await;
    let labelled = running(id).label("key", text);
    store.add_labels(id, &labelled.labels).await.unwrap();
    let by_label = RunQuery::new().label("key", text).has_label("key");
    store.count_runs_by_query(&by_label).await.unwrap();
    store.usage_by_model(&[id.into()]).await.unwrap();
    let mut watched = store.watch_logs(id, &events, &WatchStart::Now);
    let _ = timeout(Duration::from_millis(200), watched.next()).await;
    let mut watched = store.watch_tree_logs(id, &events, &WatchStart::Now);
    let _ = timeout(Duration::from_millis(200), watched.next()).await;
    let mut watched = store.watch_runs(&query, &WatchStart::Now);
    let _ = timeout(Duration::from_millis(200), watched.next()).await;
    let statistics = StatisticsQuery::of(RunQuery::new().skills([text]));
    store.run_statistics(&statistics).await.unwrap();
    store.call_statistics(&statistics).await.unwrap();
    let owned = store.clone().with_owner(Owner::new(text).id(text));
    owned.heartbeat().await.unwrap();
    store.find_owner(text).await.unwrap();
    store.sweep_interrupted().await.unwrap();
    let record = StagedRecord::new(text, id, text, at(0), json!({ text: text }));
    store.stage(&[record.parent(text)]).await.unwrap();
    store.waiting_groups(text, 1).await.unwrap();
    store.waiting_records(text, 1).await.unwrap();
    store.find_staged(text, &[id.into()]).await.unwrap();
    let settled = [(id.to_owned(), text.to_owned())];
    store.settle(text, &settled).await.unwrap();
    store.forget_settled(at(0)).await.unwrap();
    let budget = Budget::new(text, Amount::Tokens(1), BudgetPeriod::day());
    let scope = BudgetScope::Caller(text.to_owned());
    store.set_budget(&budget.scope(scope)).await.unwrap();
    store.list_budgets().await.unwrap();
    store.find_budget(text).await.unwrap();
    let request = ReservationRequest::new(id, Spending::new()).caller(text);
    store.reserve(&request).await.unwrap();
    store
        .settle_reservation(id, &Spending::new())
        .await
        .unwrap();
    store.remove_budget(text).await.unwrap();
    store
        .purge_older_than(chrono::DateTime::<chrono::Utc>::MAX_UTC)
        .await
        .unwrap();
}

fn on_one_thread(calls: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(calls);
}

async fn connect(log_statements: bool) -> AuditStore {
    let url = std::env::var(CHILD_URL).unwrap();
    let options = DatabaseOptions::new(url).log_statements(log_statements);
    AuditStore::connect(options).await.unwrap()
}

#[test]
#[ignore = "a child process of a case above"]
fn child_that_logs_spans() {
    let reports = Reports::capture_everything();
    on_one_thread(async {
        let store = connect(false).await;
        assert_every_method_refuses(&store, ErrorKind::SchemaMissing).await;
        store.initialize().await.unwrap();
        let run = running("id-s3cr3t")
            .caller("caller-s3cr3t")
            .input("key-s3cr3t", "value-s3cr3t");
        store.start_run(&run).await.unwrap();
        store.append_log(&event("id-s3cr3t", 0)).await.unwrap();
        store.get_run("id-s3cr3t").await.unwrap();
        store.get_run("other-s3cr3t").await.unwrap_err();
        store
            .finish_run("id-s3cr3t", &stats().output("output-s3cr3t"))
            .await
            .unwrap();
        call_every_method(&store, "id-s3cr3t", "text-s3cr3t").await;
        store.close().await.unwrap();
    });
    let logged = reports.text();
    for method in methods_of_a_store() {
        let span = match method.as_str() {
            // `stream_runs` calls `stream_runs_by_query`.
            "stream_runs" => "stream_runs_by_query",
            method => method,
        };
        assert!(
            logged.contains(&format!("DEBUG {span}: ")),
            "{span}: {logged}"
        );
    }
    for statement in [
        "get_run:statement{summary=\"SELECT skill_runs\" rows=1}",
        "get_run:statement{summary=\"SELECT skill_runs\" rows=0}",
        "statement{summary=\"INSERT skill_runs\" rows=1}",
        "statement{summary=\"INSERT skill_run_logs\" rows=1}",
        "statement{summary=\"UPDATE skill_runs\" rows=1}",
    ] {
        assert!(logged.contains(statement), "{statement}: {logged}");
    }
    assert!(!logged.contains("s3cr3t"), "{logged}");
    assert!(!logged.contains("sqlx::query"), "{logged}");
}

#[test]
#[ignore = "a child process of a case above"]
fn child_that_logs_statements() {
    let reports = Reports::capture_everything();
    on_one_thread(async {
        let store = connect(true).await;
        store.initialize().await.unwrap();
        store.start_run(&running("id-s3cr3t")).await.unwrap();
        store.get_run("id-s3cr3t").await.unwrap();
        store.close().await.unwrap();
    });
    let logged = reports.text();
    assert!(
        logged.contains("sqlx::query") && logged.contains("skill_runs"),
        "{logged}"
    );
    assert!(!logged.contains("s3cr3t"), "{logged}");
}
