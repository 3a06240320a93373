use chrono::Utc;
use futures_util::TryStreamExt;
use runtrail_audit::{
    Amount, Budget, BudgetPeriod, Budgets, BulkStorage, Error, ErrorKind, ListOrder, LogFilter,
    Owner, Ownership, Page, PageRequest, PagedStorage, ReservationRequest, Retention, RunCreation,
    RunFilter, RunLabels, RunLookup, RunQuery, RunTree, Spending, StagedRecord, Staging,
    Statistics, StatisticsQuery, Storage, UsageTotals, Watch, WatchStart,
};
use runtrail_migration::{MIGRATION_TABLE, Migrator};
use runtrail_store::AuditStore;
use sea_orm::DatabaseConnection;
use serde_json::json;

use crate::fixture::*;

/// Checks that every method except `initialize` fails with this kind of error.
pub(crate) async fn assert_every_method_refuses(store: &AuditStore, kind: ErrorKind) {
    assert_kind(store.verify_schema().await, kind);
    let (page, filter) = (Page::ALL, RunFilter::new());
    assert_kind(store.start_run(&running("r")).await, kind);
    assert_kind(store.finish_run("r", &stats()).await, kind);
    assert_kind(store.append_log(&event("r", 0)).await, kind);
    assert_kind(store.get_run("r").await, kind);
    assert_kind(store.list_logs_by_run("r").await, kind);
    assert_kind(store.list_runs_by_skill("s", None).await, kind);
    assert_kind(
        store.list_runs_by_skill_paginated("s", page, true).await,
        kind,
    );
    assert_kind(store.count_runs_by_skill("s", true).await, kind);
    assert_kind(store.list_runs_by_caller("c", None).await, kind);
    assert_kind(store.list_runs_filtered(&filter, page).await, kind);
    assert_kind(store.count_runs_filtered(&filter).await, kind);
    assert_kind(
        store
            .purge_older_than(chrono::DateTime::<Utc>::MAX_UTC)
            .await,
        kind,
    );
    assert_kind(store.list_children_by_parent("r").await, kind);
    assert_kind(store.walk_parent_chain("r").await, kind);
    assert_kind(store.list_finished_runs_before(at(0), None).await, kind);
    assert_kind(store.last_run_by_skills(&["s".into()], true).await, kind);

    assert_kind(store.create_run(&running("r")).await, kind);
    assert_kind(store.append_logs(&[event("r", 0)]).await, kind);
    assert_kind(store.list_children("r").await, kind);
    assert_kind(store.list_subtree("r").await, kind);
    assert_kind(store.measure_purge(at(0)).await, kind);
    assert_kind(store.purge_in_batches(at(0), &|_| {}).await, kind);
    assert_kind(store.find_run_ids("r", "", 1).await, kind);
    assert_kind(store.adjacent_run_ids(&["r".into()]).await, kind);
    let any = RunQuery::new();
    assert_kind(store.find_runs(&["r".into()], &any).await, kind);
    assert_kind(store.subtree_totals(&["r".into()], &any, 1).await, kind);
    assert_kind(store.list_ancestors("r").await, kind);
    assert_kind(store.count_children("r").await, kind);
    let newest = PageRequest::first(1);
    let (query, order) = (RunQuery::new(), ListOrder::NewestFirst);
    assert_kind(store.page_runs(&query, order, &newest).await, kind);
    assert_kind(store.page_run_summaries(&query, order, &newest).await, kind);
    assert_kind(store.count_runs_by_query(&query).await, kind);
    let mut runs = store.stream_runs_by_query(&query, order, page);
    assert_kind(runs.try_next().await, kind);
    let all = LogFilter::new();
    assert_kind(store.page_logs("r", &all, order, &newest).await, kind);
    let mut runs = store.stream_runs(&filter, ListOrder::NewestFirst, page);
    assert_kind(runs.try_next().await, kind);
    let mut events = store.stream_logs("r", &LogFilter::new(), ListOrder::NewestFirst);
    assert_kind(events.try_next().await, kind);

    assert_kind(
        store
            .add_labels("r", &running("").label("k", "v").labels)
            .await,
        kind,
    );

    assert_kind(store.usage_by_model(&["r".into()]).await, kind);
    let start = WatchStart::Beginning;
    let mut events = store.watch_logs("r", &LogFilter::new(), &start);
    assert_kind(events.try_next().await, kind);
    let mut events = store.watch_tree_logs("r", &LogFilter::new(), &start);
    assert_kind(events.try_next().await, kind);
    let mut runs = store.watch_runs(&RunQuery::new(), &start);
    assert_kind(runs.try_next().await, kind);
    let statistics = StatisticsQuery::of(RunQuery::new());
    assert_kind(store.run_statistics(&statistics).await, kind);
    assert_kind(store.call_statistics(&statistics).await, kind);

    let owned = store.clone().with_owner(Owner::new("").id("o"));
    assert_kind(owned.heartbeat().await, kind);
    assert_kind(owned.start_run(&running("r")).await, kind);
    assert_kind(store.find_owner("o").await, kind);
    assert_kind(store.sweep_interrupted().await, kind);

    let record = StagedRecord::new("g", "id", "span", at(0), json!({}));
    assert_kind(store.stage(&[record]).await, kind);
    assert_kind(store.waiting_groups("", 1).await, kind);
    assert_kind(store.waiting_records("g", 1).await, kind);
    assert_kind(store.find_staged("g", &["id".into()]).await, kind);
    assert_kind(store.settle("g", &[("id".into(), "r".into())]).await, kind);
    assert_kind(store.forget_settled(at(0)).await, kind);

    let budget = Budget::new("b", Amount::Tokens(1), BudgetPeriod::day());
    assert_kind(store.set_budget(&budget).await, kind);
    assert_kind(store.remove_budget("b").await, kind);
    assert_kind(store.list_budgets().await, kind);
    assert_kind(store.find_budget("b").await, kind);
    let request = ReservationRequest::new("id", Spending::new());
    assert_kind(store.reserve(&request).await, kind);
    assert_kind(store.settle_reservation("id", &Spending::new()).await, kind);
}

/// Returns the methods of every trait of the audit crate that a store implements, except `owner`,
/// which doesn't use the database.
pub(crate) fn methods_of_a_store() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/audit/src");
    let mut methods = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let Some((_, trait_body)) = source.split_once("\npub trait ") else {
            continue;
        };
        // A clock has nothing to do with a database.
        if trait_body.starts_with("Clock") {
            continue;
        }
        let trait_body = trait_body.split("\n}").next().unwrap();
        let names = trait_body.lines().filter_map(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("fn ")?.split('(').next()
        });
        methods.extend(names.filter(|name| *name != "owner").map(str::to_owned));
    }
    methods
}

#[test]
fn the_schema_cases_cover_every_method() {
    let source = include_str!("schema_checks.rs");
    let (_, check_body) = source
        .split_once("async fn assert_every_method_refuses")
        .unwrap();
    let check_body = check_body.split("\n}").next().unwrap();
    let methods = methods_of_a_store();
    assert!(methods.len() > 25, "{methods:?}");
    for method in methods {
        let is_called = check_body.contains(&format!(".{method}(")) || method == "initialize";
        assert!(is_called, "{method}");
    }
}

/// Migrates the database, and stores one finished run, which must stay unchanged.
async fn migrated(database: &TestDatabase) -> DatabaseConnection {
    let db = database.connection().await;
    Migrator::new().up(&db, None).await.unwrap();
    AuditStore::new(db.clone())
        .start_run(&finished_at("old", 1))
        .await
        .unwrap();
    db
}

async fn record(db: &DatabaseConnection, table: &str, name: &str) {
    execute(db, &format!("INSERT INTO {table} VALUES ('{name}', 0)")).await;
}

on_each_backend! {
    async fn a_missing_schema_is_reported(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        assert_every_method_refuses(&store, ErrorKind::SchemaMissing).await;
        store.initialize().await.unwrap();
        store.start_run(&running("r")).await.unwrap();
    }

    async fn an_older_schema_is_reported_with_its_pending_migrations(database) {
        let db = migrated(database).await;
        Migrator::new().down(&db, 1).await.unwrap();
        let store = AuditStore::connect(database.url()).await.unwrap();
        assert_every_method_refuses(&store, ErrorKind::SchemaOutdated).await;
        match store.get_run("old").await {
            Err(Error::SchemaOutdated { pending }) => {
                let last = runtrail_migration::migrations().pop().unwrap();
                assert_eq!(pending, [last.name()]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(count(&db, "skill_runs").await, 1);
        store.initialize().await.unwrap();
        assert_eq!(store.get_run("old").await.unwrap(), finished_at("old", 1));
    }

    async fn a_newer_schema_is_reported_and_left_alone(database) {
        let db = migrated(database).await;
        record(&db, MIGRATION_TABLE, "runtrail_m29990101_000001_later").await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        assert_every_method_refuses(&store, ErrorKind::SchemaTooNew).await;
        let err = assert_kind(store.initialize().await, ErrorKind::SchemaTooNew);
        assert!(err.to_string().contains("runtrail_m29990101_000001_later"));
        assert!(Migrator::new().down(&db, 1).await.is_err());
        assert_eq!(count(&db, "skill_runs").await, 1);
    }

    async fn a_newer_schema_is_detected_in_a_composed_hosts_records(database) {
        let db = migrated(database).await;
        execute(
            &db,
            "CREATE TABLE seaql_migrations (version varchar(99), applied_at bigint)",
        )
        .await;
        record(&db, "seaql_migrations", "m20220101_000001_of_the_host").await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.get_run("old").await.unwrap();

        record(&db, "seaql_migrations", "runtrail_m29990101_000001_later").await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        assert_every_method_refuses(&store, ErrorKind::SchemaTooNew).await;
        assert_eq!(count(&db, "skill_runs").await, 1);
    }

    async fn a_foreign_table_is_reported_and_left_alone(database) {
        let db = database.connection().await;
        execute(
            &db,
            "CREATE TABLE skill_runs (id text, skill_id text, inputs text)",
        )
        .await;
        execute(&db, "INSERT INTO skill_runs VALUES ('theirs', 's', '{}')").await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        assert_every_method_refuses(&store, ErrorKind::SchemaForeign).await;
        let err = assert_kind(store.initialize().await, ErrorKind::SchemaForeign);
        assert!(
            err.to_string()
                .contains("table skill_runs is not Runtrail's"),
            "{err}"
        );
        assert!(Migrator::new().down(&db, 99).await.is_err());
        assert_eq!(
            fetch::<String>(&db, "SELECT id FROM skill_runs").await,
            ["theirs"]
        );
    }

    async fn a_foreign_table_of_events_is_reported_and_left_alone(database) {
        let db = database.connection().await;
        execute(&db, "CREATE TABLE skill_run_logs (id text)").await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        assert_every_method_refuses(&store, ErrorKind::SchemaForeign).await;
        assert_kind(store.initialize().await, ErrorKind::SchemaForeign);
        assert_eq!(count(&db, "skill_run_logs").await, 0);
    }

    async fn tables_dropped_under_an_open_store_are_reported_as_missing(database) {
        let db = migrated(database).await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.get_run("old").await.unwrap();
        Migrator::new().deleting_rows().down(&db, 99).await.unwrap();
        assert_kind(store.get_run("old").await, ErrorKind::SchemaMissing);
        assert_kind(
            store.start_run(&running("r")).await,
            ErrorKind::SchemaMissing,
        );
        store.initialize().await.unwrap();
        store.start_run(&running("r")).await.unwrap();
    }

    async fn initializing_in_a_transaction_only_checks_the_schema(database) {
        use sea_orm::TransactionTrait;

        let db = database.connection().await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        let txn = db.begin().await.unwrap();
        assert_kind(store.on(&txn).initialize().await, ErrorKind::SchemaMissing);
        txn.rollback().await.unwrap();
        store.initialize().await.unwrap();
        let txn = db.begin().await.unwrap();
        store.on(&txn).initialize().await.unwrap();
        txn.rollback().await.unwrap();
    }
}
