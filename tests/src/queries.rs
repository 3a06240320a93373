//! The SQL of every method against a golden file, and that each query uses an index.
//!
//! After an intended change: `RUNTRAIL_UPDATE_GOLDEN=1 cargo xtask test queries`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use runtrail_audit::{
    Amount, Buckets, Budget, BudgetPeriod, Budgets, BulkStorage, Dimension, ListOrder, LogFilter,
    Owner, Ownership, Page, PageRequest, PagedStorage, ReservationRequest, Retention, RunFilter,
    RunLabels, RunLookup, RunQuery, RunTree, Spending, StagedRecord, Staging, Statistics,
    StatisticsQuery, Storage, Usage, UsageTotals, Watch, WatchStart,
};
use runtrail_store::AuditStore;
use sea_orm::sea_query::{PostgresQueryBuilder, QueryBuilder};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement, Value};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::fixture::*;

pub(crate) type Seen = Arc<Mutex<Vec<Statement>>>;

/// Connects to empty tables, and records every statement of the connection.
pub(crate) async fn watched(database: &TestDatabase) -> (DatabaseConnection, Seen) {
    let seen = Seen::default();
    let statements = Arc::clone(&seen);
    let mut options = sea_orm::ConnectOptions::new(database.url());
    options.max_connections(1).sqlx_logging(false);
    let mut db = Database::connect(options).await.unwrap();
    db.set_metric_callback(move |info| statements.lock().unwrap().push(info.statement.clone()));
    AuditStore::new(db.clone()).initialize().await.unwrap();
    (db, seen)
}

/// Returns every method with the statements that it sends.
async fn statements_by_method(
    db: &DatabaseConnection,
    seen: &Seen,
) -> Vec<(&'static str, Vec<Statement>)> {
    let store = AuditStore::new(db.clone());
    store.count_runs_by_skill("s", false).await.unwrap();
    let sent = || std::mem::take(&mut *seen.lock().unwrap());
    let mut all = Vec::new();
    sent();
    macro_rules! see {
        ($($name:literal: $call:expr,)*) => {$(
            let _ = $call.await;
            all.push(($name, sent()));
        )*};
    }
    let filter = RunFilter::new;
    let usage = || Usage::new().model("m");
    see! {
        "start_run": store.start_run(&finished_at("r", 1)),
        "start_run, repeated": store.start_run(&finished_at("r", 1)),
        "append_log": store.append_log(&event("r", 0)),
        "append_log, repeated": store.append_log(&event("r", 0)),
        "append_log with a usage": store.append_log(&event("r", 1).usage(usage())),
        "finish_run, repeated": store.finish_run("r", &stats()),
        "get_run": store.get_run("r"),
        "list_logs_by_run": store.list_logs_by_run("r"),
        "list_runs_by_skill": store.list_runs_by_skill("s", None),
        "list_runs_by_skill_paginated":
            store.list_runs_by_skill_paginated("s", Page::first(5).skip(5), true),
        "count_runs_by_skill": store.count_runs_by_skill("s", false),
        "list_runs_by_caller": store.list_runs_by_caller("c", Some(5)),
        "list_runs_filtered": store.list_runs_filtered(&filter(), Page::first(5)),
        "list_runs_filtered by status":
            store.list_runs_filtered(&filter().status("error"), Page::first(5)),
        "list_runs_filtered by channel":
            store.list_runs_filtered(&filter().channel("c"), Page::first(5)),
        "list_runs_filtered, top level":
            store.list_runs_filtered(&filter().top_level_only(), Page::first(5)),
        "list_runs_filtered by time":
            store.list_runs_filtered(&filter().since(at(0)).until(at(1)), Page::ALL),
        "count_runs_filtered by status": store.count_runs_filtered(&filter().status("error")),
        "purge_older_than": store.purge_older_than(at(5)),
        "list_children_by_parent": store.list_children_by_parent("r"),
        "walk_parent_chain": store.walk_parent_chain("r"),
        "list_finished_runs_before": store.list_finished_runs_before(at(5), Some(5)),
        "last_run_by_skills": store.last_run_by_skills(&["s".into()], false),
        "append_logs": store.append_logs(&[event("r", 7), event("r", 8)]),
        "append_logs with a usage":
            store.append_logs(&[event("r", 9), event("r", 10).usage(usage())]),
        "append_logs, repeated": store.append_logs(&[event("r", 7), event("r", 8)]),
        "list_children": store.list_children("r"),
        "list_subtree": store.list_subtree("r"),
        "subtree_totals": store.subtree_totals(&["r".into(), "s".into()], &RunQuery::new(), 9),
        "subtree_totals of a caller and a label": store.subtree_totals(
            &["r".into()],
            &RunQuery::new().callers(["caller"]).label("env", "prod").include_dry_run(),
            9,
        ),
        "find_run_ids": store.find_run_ids("r", "", 5),
        "find_run_ids with an end": store.find_run_ids("r", "s", 5),
        "adjacent_run_ids": store.adjacent_run_ids(&["r".into()]),
        "find_runs": store.find_runs(&["r".into(), "s".into()], &RunQuery::new()),
        "find_runs with a label":
            store.find_runs(&["r".into()], &RunQuery::new().label("env", "prod")),
        "list_ancestors": store.list_ancestors("r"),
        "count_children": store.count_children("r"),
        "measure_purge": store.measure_purge(at(5)),
        "page_runs":
            store.page_runs(&RunQuery::new(), ListOrder::NewestFirst, &PageRequest::first(5)),
        "page_run_summaries": store.page_run_summaries(
            &RunQuery::new(),
            ListOrder::OldestFirst,
            &PageRequest::first(5),
        ),
        "page_runs, without a stored parent": store.page_runs(
            &RunQuery::new().without_stored_parent(),
            ListOrder::NewestFirst,
            &PageRequest::first(5),
        ),
        "count_runs_by_query": store.count_runs_by_query(&RunQuery::new().statuses(["error"])),
        "count_runs_by_query, two statuses": store.count_runs_by_query(&failed()),
        "page_runs, two statuses":
            store.page_runs(&failed(), ListOrder::NewestFirst, &PageRequest::first(5)),
        "page_runs, every condition":
            store.page_runs(&every_condition(), ListOrder::NewestFirst, &PageRequest::first(5)),
        "page_runs, stale": store.page_runs(
            &RunQuery::new().stale_since(at(5)),
            ListOrder::NewestFirst,
            &PageRequest::first(5),
        ),
        "page_runs, a label": store.page_runs(
            &RunQuery::new().label("env", "prod"),
            ListOrder::NewestFirst,
            &PageRequest::first(5),
        ),
        "page_run_summaries, conditions on labels": store.page_run_summaries(
            &RunQuery::new()
                .label_in("env", ["dev", "prod"])
                .has_label("team")
                .except_label("team", ["a"]),
            ListOrder::OldestFirst,
            &PageRequest::first(5),
        ),
        "count_runs_by_query, a label":
            store.count_runs_by_query(&RunQuery::new().label("env", "prod")),
        "add_labels": store.add_labels("r", &running("").label("env", "prod").labels),
        "usage_by_model": store.usage_by_model(&["r".into()]),
        "usage_by_model, two runs": store.usage_by_model(&["r".into(), "s".into()]),
        "run_statistics of a time": store.run_statistics(
            &StatisticsQuery::of(RunQuery::new().started(at(0)..)),
        ),
        "run_statistics, the last runs of two skills by label and day": store.run_statistics(
            &StatisticsQuery::of(RunQuery::new().skills(["s", "t"]))
                .last_per_skill(5)
                .group_by([Dimension::Skill, Dimension::Label("env".into())])
                .buckets(days()),
        ),
        "call_statistics": store.call_statistics(&StatisticsQuery::of(RunQuery::new())),
        "call_statistics by model, day and tier": store.call_statistics(
            &StatisticsQuery::of(RunQuery::new().started(at(0)..=at(1)))
                .group_by([Dimension::Provider, Dimension::Model])
                .buckets(days())
                .input_tiers([200_000]),
        ),
        "page_logs":
            store.page_logs("r", &LogFilter::new(), ListOrder::OldestFirst, &PageRequest::first(5)),
    }

    let owned = store.clone().with_owner(Owner::new("").id("o"));
    see! {
        "heartbeat": owned.heartbeat(),
        "start_run with an owner": owned.start_run(&running("owned")),
        "find_owner": store.find_owner("o"),
        "sweep_interrupted, nothing due": store.sweep_interrupted(),
    }
    execute(db, "UPDATE runtrail_owners SET last_seen_at = 1").await;
    sent();
    see! {
        "sweep_interrupted": store.sweep_interrupted(),
        "finish_run of an interrupted run": owned.finish_run("owned", &stats()),
        "heartbeat of a dead owner": owned.heartbeat(),
    }

    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let staged = |id: &str| StagedRecord::new("g", id, "span", at(0), json!({}));
    see! {
        "stage": store.stage(&[staged("a"), staged("b").parent("a")]),
        "waiting_groups": store.waiting_groups("", 10),
        "waiting_records": store.waiting_records("g", 10),
        "find_staged": store.find_staged("g", &ids(&["a", "b"])),
        "settle": store.settle("g", &[("a".to_owned(), "r".to_owned())]),
        "forget_settled": store.forget_settled(at(0)),
    }

    let day = BudgetPeriod::day();
    let request = |id: &str, tokens| ReservationRequest::new(id, Spending::new().tokens(tokens));
    let (first, second) = (request("1", 5), request("2", 6));
    see! {
        "set_budget": store.set_budget(&Budget::new("b", Amount::Tokens(10), day)),
        "list_budgets": store.list_budgets(),
        "find_budget": store.find_budget("b"),
        "reserve": store.reserve(&first),
        "reserve, over the limit": store.reserve(&second),
        "settle_reservation": store.settle_reservation("1", &Spending::new().tokens(4)),
        "settle_reservation, repeated":
            store.settle_reservation("1", &Spending::new().tokens(4)),
        "remove_budget": store.remove_budget("b"),
    }

    for (name, sent) in watching(&store, seen).await {
        all.push((name, sent));
    }

    // As many rows as one query of a stream reads, so that another query follows.
    store.start_run(&running("streamed")).await.unwrap();
    for number in 0..100 {
        store.append_log(&event("streamed", number)).await.unwrap();
        store
            .start_run(&running(&format!("r-{number}")))
            .await
            .unwrap();
    }
    let page = store
        .page_runs(
            &RunQuery::new(),
            ListOrder::NewestFirst,
            &PageRequest::first(1),
        )
        .await
        .unwrap();
    let next = PageRequest::first(1).at(page.next.unwrap());
    let back = PageRequest::first(1).at(page.start_cursor);
    sent();
    see! {
        "page_runs, the next page":
            store.page_runs(&RunQuery::new(), ListOrder::NewestFirst, &next),
        "page_runs, the page before":
            store.page_runs(&RunQuery::new(), ListOrder::NewestFirst, &back),
    }

    sent();
    let by_skill = filter().skill("skill");
    let typed = LogFilter::new().event_type("message").after(7);
    see! {
        "stream_runs":
            store.stream_runs(&filter(), ListOrder::NewestFirst, Page::first(26)).count(),
        "stream_runs of a skill, oldest first":
            store.stream_runs(&by_skill, ListOrder::OldestFirst, Page::first(26)).count(),
        "stream_runs_by_query": store
            .stream_runs_by_query(
                &RunQuery::new().except_skills(["skill"]),
                ListOrder::NewestFirst,
                Page::first(26),
            )
            .count(),
        "stream_logs":
            store.stream_logs("streamed", &LogFilter::new(), ListOrder::OldestFirst).count(),
        "stream_logs, newest first":
            store.stream_logs("streamed", &LogFilter::new(), ListOrder::NewestFirst).count(),
        "stream_logs of a type":
            store.stream_logs("streamed", &typed, ListOrder::OldestFirst).count(),
    }
    all
}

/// Returns the statements of streams that wait for a while, each text once and in alphabetical order:
/// how often they are sent, and in which order, depends on the time.
pub(crate) async fn watching(
    store: &AuditStore,
    seen: &Seen,
) -> Vec<(&'static str, Vec<Statement>)> {
    const POLLS: Duration = Duration::from_millis(600);

    async fn wait<T>(mut stream: BoxStream<'static, T>) {
        let _ = timeout(POLLS, stream.by_ref().count()).await;
        drop(stream);
        // The poll ends soon after the last stream.
        sleep(POLLS).await;
    }

    store.start_run(&running("watched")).await.unwrap();
    store.append_log(&event("watched", 4)).await.unwrap();
    let filter = LogFilter::new();
    let mut all = Vec::new();
    let mut see = |name| {
        let mut sent = std::mem::take(&mut *seen.lock().unwrap());
        sent.sort_by(|left, right| left.sql.cmp(&right.sql));
        sent.dedup_by(|left, right| left.sql == right.sql);
        all.push((name, sent));
    };
    seen.lock().unwrap().clear();
    wait(store.watch_logs("watched", &filter, &WatchStart::Beginning)).await;
    see("watch_logs");
    wait(store.watch_logs("watched", &filter, &WatchStart::Now)).await;
    see("watch_logs from now");
    wait(store.watch_tree_logs("watched", &filter, &WatchStart::Beginning)).await;
    see("watch_tree_logs");
    wait(store.watch_runs(&RunQuery::new(), &WatchStart::Beginning)).await;
    see("watch_runs");
    all
}

/// Five days, of which the third has 25 hours.
pub(crate) fn days() -> Buckets {
    const HOUR: i64 = 3_600;

    Buckets::starting_at([0, 24, 48, 73, 97].map(|hour| at(hour * HOUR))).unwrap()
}

fn failed() -> RunQuery {
    RunQuery::new().statuses(["error", "timeout"])
}

fn every_condition() -> RunQuery {
    RunQuery::new()
        .statuses(["ok", "error"])
        .except_statuses(["timeout", "cancelled"])
        .skills(["s"])
        .except_skills(["t"])
        .callers(["c", "d"])
        .except_callers(["e", "f"])
        .channels(["x", "y"])
        .except_channels(["z"])
        .children_of("parent")
        .started(at(0)..=at(1))
        .finished(at(0)..=at(1))
        .runtime_seconds(0.5..=1.5)
        .total_tokens(1..=2)
        .id_prefix("r")
}

/// Returns the lines of the plan that a statement has whatever its values.
pub(crate) async fn plan_for_any_values(
    db: &DatabaseConnection,
    statement: &Statement,
) -> Vec<String> {
    if db.get_database_backend() == sea_orm::DbBackend::Sqlite {
        // Without values, as SQLite plans a statement when it prepares it.
        let without_values = Statement::from_string(statement.db_backend, &statement.sql);
        return plan(db, &without_values).await;
    }
    let values = statement.values.iter().flat_map(|values| &values.0);
    let (types, values): (Vec<_>, Vec<_>) = values
        .map(|value| {
            let type_of_value = match value {
                Value::BigInt(_) | Value::BigUnsigned(_) => "bigint",
                Value::Double(_) => "double precision",
                Value::String(_) => "text",
                other => panic!("no type for {other:?}"),
            };
            (type_of_value, PostgresQueryBuilder.value_to_string(value))
        })
        .unzip();
    let (types, values) = match types.is_empty() {
        true => Default::default(),
        false => (
            format!("({})", types.join(", ")),
            format!("({})", values.join(", ")),
        ),
    };
    execute(db, "SET plan_cache_mode = force_generic_plan").await;
    execute(db, &format!("PREPARE planned {types} AS {}", statement.sql)).await;
    let execute_planned = format!("EXECUTE planned {values}");
    let lines = plan(
        db,
        &Statement::from_string(statement.db_backend, execute_planned),
    )
    .await;
    execute(db, "DEALLOCATE planned").await;
    execute(db, "RESET plan_cache_mode").await;
    lines
}

/// Returns the lines of a statement's plan.
pub(crate) async fn plan(db: &DatabaseConnection, statement: &Statement) -> Vec<String> {
    let (explain, column) = match db.get_database_backend() {
        sea_orm::DbBackend::Sqlite => ("EXPLAIN QUERY PLAN", "detail"),
        _ => ("EXPLAIN (COSTS OFF)", "QUERY PLAN"),
    };
    let sql = format!("{explain} {}", statement);
    let rows = db
        .query_all_raw(Statement::from_string(statement.db_backend, sql))
        .await
        .unwrap();
    rows.iter()
        .map(|row| row.try_get("", column).unwrap())
        .collect()
}

on_each_backend! {
    async fn the_sql_of_every_method_matches_the_golden_file(database) {
        let (db, seen) = watched(database).await;
        let mut text = String::new();
        for (method, statements) in statements_by_method(&db, &seen).await {
            text += &format!("-- {method}\n");
            for statement in statements {
                text += &format!("{}\n", statement.sql);
            }
            text += "\n";
        }
        assert_golden("queries", database.backend(), &text);
    }

    async fn every_query_uses_an_index(database) {
        let (db, seen) = watched(database).await;
        if database.backend() == Backend::Postgres {
            // For empty tables, a sequential scan would always be the best plan.
            execute(&db, "SET enable_seqscan = off").await;
        }
        for (method, statements) in statements_by_method(&db, &seen).await {
            for statement in statements {
                for line in plan(&db, &statement).await {
                    let scans_whole_table = match database.backend() {
                        Backend::Sqlite => {
                            line == "SCAN skill_runs" || line == "SCAN skill_run_logs"
                        }
                        Backend::Postgres => line.contains("Seq Scan on skill_run"),
                    };
                    assert!(!scans_whole_table, "{method}: {line}\n{}", statement.sql);
                }
            }
        }
    }
}
