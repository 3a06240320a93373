//! Which index each query uses, with 100,000 runs whose values are common or rare.

use std::time::Duration;

use futures_util::FutureExt;
use runtrail_audit::{
    Budgets, BulkStorage, Dimension, ListOrder, LogFilter, Owner, Ownership, Page, PageRequest,
    PagedStorage, Retention, RunFilter, RunLookup, RunQuery, RunStatus, RunTree, Spending, Staging,
    Statistics, StatisticsQuery, Storage, UsageTotals,
};
use runtrail_store::AuditStore;
use sea_orm::{DatabaseConnection, DbBackend, Statement};

use crate::fixture::*;
use crate::queries::{Seen, days, plan, plan_for_any_values, watched, watching};

const RUNS: i64 = 100_000;

/// Inserts runs and events. Half of the runs belong to two skills; 60 have a rare status, 60 a rare
/// channel, 1,000 are dry runs, all but ten have finished, and three in four have a parent.
async fn fill(db: &DatabaseConnection, backend: Backend) {
    let numbers = match backend {
        Backend::Sqlite => format!(
            "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n \
            + 1 < {RUNS})"
        ),
        Backend::Postgres => {
            format!("WITH numbers AS (SELECT generate_series(0::bigint, {RUNS} - 1) AS n)")
        }
    };
    let id = |n: &str| match backend {
        Backend::Sqlite => format!("printf('run-%06d', {n})"),
        Backend::Postgres => format!("'run-' || lpad(({n})::text, 6, '0')"),
    };
    let start = at(0).timestamp_micros();
    let runs = format!(
        "INSERT INTO skill_runs (id, skill_id, caller_id, channel_id, parent_run_id, started_at, \
         finished_at, status, tool_calls, runtime_seconds, total_input_tokens, \
         total_output_tokens, total_thinking_tokens, inputs, output, error) {numbers} SELECT {}, \
         CASE WHEN n % 4 < 2 THEN 'skill-' || (n % 2) ELSE 'skill-' || (n % 97) END, \
         'caller-' || (n % 1009), CASE WHEN n % 1666 = 1 THEN 'fax' ELSE 'web' END, \
         CASE WHEN n % 4 > 0 THEN {} END, {start} + n * 1000000, \
         CASE WHEN n % 10000 <> 9999 THEN {start} + n * 1000000 + 5000000 END, \
         CASE WHEN n % 1666 = 2 THEN 'cancelled' WHEN n % 100 = 3 THEN 'dry_run' \
         WHEN n % 30 = 5 THEN 'error' ELSE 'ok' END, \
         1, n % 60, n % 1000, 10, 0, '{{}}', 'some output of the usual length', '' FROM numbers",
        id("n"),
        id("n - 1"),
    );
    execute(db, &runs).await;
    let events = format!(
        "INSERT INTO skill_run_logs (run_id, sequence, created_at, event_type, payload) {numbers} \
         SELECT {}, 0, {start}, 'message', '\"hello\"' FROM numbers",
        id("n"),
    );
    execute(db, &events).await;
    match backend {
        // A store with its own connections collects these statistics itself; see below.
        Backend::Sqlite => execute(db, "PRAGMA optimize=0x10002").await,
        // As the automatic vacuum does: only then does an index without the table suffice.
        Backend::Postgres => execute(db, "VACUUM ANALYZE").await,
    }
}

/// A query, and the index that it must use on SQLite and on PostgreSQL.
struct Case {
    name: &'static str,
    index: [&'static str; 2],
    /// Whether the query stops after one page, so that it must not sort all matching rows.
    is_page: bool,
    /// Whether the query starts in the middle of the index.
    is_deep: bool,
    /// Whether the best plan depends on the values.
    depends_on_values: bool,
}

/// How a statement is planned.
#[derive(Clone, Copy, Debug)]
enum Settings {
    Default,
    /// PostgreSQL's cost of reading a page out of order is lowered, as is usual for an SSD.
    FastDisk,
    /// Without regard to the values.
    AnyValues,
}

const SETTINGS: [Settings; 3] = [Settings::Default, Settings::FastDisk, Settings::AnyValues];

struct Plans<'a> {
    db: &'a DatabaseConnection,
    seen: Seen,
    backend: Backend,
    failures: Vec<String>,
    checked: Vec<&'static str>,
}

impl<'a> Plans<'a> {
    fn new(db: &'a DatabaseConnection, seen: Seen, backend: Backend) -> Self {
        Self {
            db,
            seen,
            backend,
            failures: Vec::new(),
            checked: Vec::new(),
        }
    }

    /// Checks the plans of the statements that a call sends.
    async fn check<T>(&mut self, case: Case, call: impl Future<Output = T>) {
        self.seen.lock().unwrap().clear();
        self.checked.push(case.name);
        call.await;
        let statements = std::mem::take(&mut *self.seen.lock().unwrap());
        assert!(!statements.is_empty(), "{} sends nothing", case.name);
        let [on_sqlite, on_postgres] = case.index;
        let index = match self.backend {
            Backend::Sqlite => on_sqlite,
            Backend::Postgres => on_postgres,
        };
        // Queries on the system catalog use the catalog's own indexes.
        // A purge of owners reads all of them, but only the running runs, which have an index.
        let on_our_tables = statements.into_iter().filter(|statement| {
            !statement.sql.contains("pg_catalog")
                && !statement.sql.contains("pragma_")
                && !statement.sql.starts_with("DELETE FROM \"runtrail_owners\"")
                // Purges and sweeps also write reservations, which have a case of their own.
                && statement.sql.contains("\"runtrail_budget") == index.contains("budget")
        });
        for statement in on_our_tables {
            self.check_plans(&case, &statement).await;
        }
        self.seen.lock().unwrap().clear();
    }

    /// Checks the plans of a statement.
    async fn check_plans(&mut self, case: &Case, statement: &Statement) {
        let [on_sqlite, on_postgres] = case.index;
        let index = match self.backend {
            Backend::Sqlite => on_sqlite,
            Backend::Postgres => on_postgres,
        };
        for settings in SETTINGS {
            let lines = match settings {
                Settings::Default => plan(self.db, statement).await,
                Settings::AnyValues if case.depends_on_values => continue,
                Settings::AnyValues => plan_for_any_values(self.db, statement).await,
                Settings::FastDisk if self.backend == Backend::Sqlite => continue,
                Settings::FastDisk => {
                    execute(self.db, "SET random_page_cost = 1.1").await;
                    let lines = plan(self.db, statement).await;
                    execute(self.db, "RESET random_page_cost").await;
                    lines
                }
            };
            let uses_index = lines.iter().any(|line| line.contains(index));
            let scans_or_sorts_all = lines.iter().any(|line| match self.backend {
                // Following an index until the page is full is fine; sorting all matching rows is
                // not.
                Backend::Sqlite => {
                    line.starts_with("SCAN skill_run") && !line.contains(" USING ")
                        || case.is_page && line == "USE TEMP B-TREE FOR ORDER BY"
                }
                // PostgreSQL has statistics for each value, and sorts if few rows match.
                Backend::Postgres => line.contains("Seq Scan on skill_run"),
            });
            let starts_at_index_start = case.is_deep
                && !lines.iter().any(|line| match self.backend {
                    Backend::Sqlite => line.contains("SEARCH") && line.contains("started_at<?"),
                    Backend::Postgres => {
                        line.contains("Index Cond: (ROW(started_at")
                            || line.contains("Index Cond: (started_at <=")
                    }
                });
            if !uses_index || scans_or_sorts_all || starts_at_index_start {
                let plan = lines.join("\n    ");
                self.failures.push(format!(
                    "{}, {settings:?}: must use {index}\n    {plan}",
                    case.name
                ));
            }
        }
    }
}

const RUN: [&str; 2] = ["sqlite_autoindex_skill_runs_1", "skill_runs_pkey"];
const EVENTS: [&str; 2] = ["sqlite_autoindex_skill_run_logs_1", "skill_run_logs_pkey"];
/// A lookup of each parent by its id. On PostgreSQL, a plan that hashes the ids of all runs lacks
/// this condition.
const PARENT_BY_ID: [&str; 2] = [
    "SEARCH parent USING COVERING INDEX sqlite_autoindex_skill_runs_1 (id=?)",
    "Index Cond: (id = skill_runs.parent_run_id)",
];
const BY_SKILL: [&str; 2] = ["runtrail_skill_runs_by_skill"; 2];
const BY_CALLER: [&str; 2] = ["runtrail_skill_runs_by_caller"; 2];
const BY_CHANNEL: [&str; 2] = ["runtrail_skill_runs_by_channel"; 2];
const BY_PARENT: [&str; 2] = ["runtrail_skill_runs_by_parent"; 2];
const BY_STATUS: [&str; 2] = ["runtrail_skill_runs_by_status"; 2];
const BY_START: [&str; 2] = ["runtrail_skill_runs_by_start"; 2];
const BY_FINISH: [&str; 2] = ["runtrail_skill_runs_by_finish"; 2];
const RUNNING_BY_OWNER: [&str; 2] = ["runtrail_skill_runs_running_by_owner"; 2];
/// Lists with two labels first count a few runs of each.
const BY_LABEL: [&str; 2] = [
    "SEARCH runtrail_run_labels USING PRIMARY KEY (key=? AND value=?",
    "runtrail_run_labels_pkey",
];
const BY_LABEL_KEY: [&str; 2] = ["runtrail_run_labels_by_key"; 2];
const USAGE: [&str; 2] = ["runtrail_skill_run_logs_usage"; 2];
const DRY_RUNS: [&str; 2] = ["runtrail_skill_runs_dry"; 2];

macro_rules! check {
    ($plans:ident: $($name:literal by $index:expr => $call:expr,)*) => {
        $(
            let case = Case {
                name: $name,
                index: $index,
                is_page: $name.starts_with("list_runs") || $name.starts_with("page"),
                is_deep: $name.ends_with("deep"),
                depends_on_values: DEPEND_ON_VALUES.contains(&$name)
                    || STATISTICS_OF_A_TIME.contains(&$name),
            };
            $plans.check(case, $call).await;
        )*
    };
}

/// The calls for which another index would be better if their values were more common or rarer.
const DEPEND_ON_VALUES: [&str; 7] = [
    "count_runs_filtered, a common channel, its dry runs",
    "list_runs_filtered, a caller and a common status",
    "list_runs_filtered, a caller and an uncommon status",
    "list_runs_filtered, a skill and a common status",
    "two statuses of a skill",
    "list_finished_runs_before",
    "measure_purge",
];

/// The same for statistics: of most runs, they are better read in the order of the groups.
const STATISTICS_OF_A_TIME: [&str; 3] = [
    "run_statistics of a time",
    "call_statistics of a time, its runs",
    "call_statistics of a time, their calls",
];

on_each_backend! {
    async fn a_list_of_values_that_are_no_longer_used_skips_few_rows(database) {
        let (db, seen) = watched(database).await;
        fill(&db, database.backend()).await;
        // Frequent, but only in the oldest 40 % and in the newest runs.
        execute(
            &db,
            "UPDATE skill_runs SET skill_id = 'retired', caller_id = 'retired', \
             channel_id = 'retired', status = 'retired', parent_run_id = 'retired' \
             WHERE id < 'run-040000' OR id > 'run-099990'",
        )
        .await;
        let statements: &[&str] = match database.backend() {
            Backend::Sqlite => &["PRAGMA optimize=0x10002"],
            // In the order in which runs are usually inserted, the index by start is cheap to read.
            Backend::Postgres => &[
                "CLUSTER skill_runs USING runtrail_skill_runs_by_start",
                "VACUUM ANALYZE",
            ],
        };
        for statement in statements {
            execute(&db, statement).await;
        }
        let store = AuditStore::new(db.clone());
        store.verify_schema().await.unwrap();
        let query = RunQuery::new;
        for (query, index) in [
            (query().skills(["retired"]), BY_SKILL[0]),
            (query().callers(["retired"]), BY_CALLER[0]),
            (query().channels(["retired"]), BY_CHANNEL[0]),
            (query().statuses(["retired"]), BY_STATUS[0]),
            (query().children_of("retired"), BY_PARENT[0]),
            (query().skills(["retired", "never"]), BY_SKILL[0]),
            (query().callers(["never", "retired", "retired"]), BY_CALLER[0]),
            (query().channels(["retired", "fax"]), BY_CHANNEL[0]),
            (query().statuses(["retired", "cancelled"]), BY_STATUS[0]),
        ] {
            for order in [ListOrder::NewestFirst, ListOrder::OldestFirst] {
                let mut request = PageRequest::first(20);
                // Newest first, the first page spans a long gap; the second begins after it.
                for _ in 0..2 {
                    seen.lock().unwrap().clear();
                    let page = store.page_runs(&query, order, &request).await.unwrap();
                    assert_eq!(page.items.len(), 20);
                    request = request.at(page.next.unwrap());
                    let statements = std::mem::take(&mut *seen.lock().unwrap());
                    for statement in statements {
                        let discarded = discarded_rows(&db, &statement, index).await;
                        assert!(discarded < 1_000, "{query:?}: {discarded} rows\n{statement}");
                    }
                }
            }
        }
    }

    async fn descendants_are_found_by_index_even_if_no_run_has_a_parent(database) {
        let (db, seen) = watched(database).await;
        fill(&db, database.backend()).await;
        execute(&db, "UPDATE skill_runs SET parent_run_id = NULL").await;
        execute(&db, "ANALYZE").await;
        let store = AuditStore::new(db.clone());
        store.verify_schema().await.unwrap();
        let dead = Owner::new("dead").lease(Duration::from_millis(100));
        store.clone().with_owner(dead).start_run(&running("r")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
        let mut plans = Plans::new(&db, seen, database.backend());
        check! { plans:
            "list_subtree" by BY_PARENT => store.list_subtree("run-000100"),
            "walk_parent_chain" by RUN => store.walk_parent_chain("run-000103"),
            "sweep_interrupted" by RUNNING_BY_OWNER => store.sweep_interrupted(),
        }
        let swept = store.get_run("r").await.unwrap();
        assert_eq!(swept.status, RunStatus::INTERRUPTED);
        assert!(plans.failures.is_empty(), "{}", plans.failures.join("\n"));
    }

    async fn runs_are_found_by_the_index_of_their_labels(database) {
        let (db, seen) = watched(database).await;
        fill(&db, database.backend()).await;
        // One environment has nearly all runs, and a session has ten; the last 40,000 runs have no
        // team.
        let json = |condition: &str, labels: &str| {
            format!("UPDATE skill_runs SET labels = {labels} WHERE {condition}")
        };
        let session = "'{\"env\":\"prod\",\"session\":\"' || substr(id, 1, 9) || '\"}'";
        let team = "'{\"env\":\"prod\",\"team\":\"' || substr(id, 10) || '\"}'";
        execute(&db, &json("id >= 'run-060000'", session)).await;
        execute(&db, &json("id < 'run-060000'", team)).await;
        execute(&db, &json("id < 'run-000010'", "'{\"rare\":\"\"}'")).await;
        let statistics = match database.backend() {
            Backend::Sqlite => "ANALYZE",
            Backend::Postgres => "VACUUM ANALYZE",
        };
        execute(&db, statistics).await;
        let store = AuditStore::new(db.clone());
        store.verify_schema().await.unwrap();
        let mut plans = Plans::new(&db, seen, database.backend());
        let query = RunQuery::new;
        let (newest, oldest) = (ListOrder::NewestFirst, ListOrder::OldestFirst);
        let first = &PageRequest::first(50);
        let page = |query: RunQuery, order: ListOrder| {
            let store = &store;
            async move { store.page_runs(&query, order, first).await.unwrap() }.boxed()
        };
        check! { plans:
            "page_runs, a common label" by BY_LABEL => page(query().label("env", "prod"), newest),
            "page_runs, a rare label" by BY_LABEL =>
                page(query().label("session", "run-09999"), oldest),
            "page_runs, an absent label" by BY_LABEL => page(query().label("env", "dev"), newest),
            "page_runs, a common and a rare label" by BY_LABEL =>
                page(query().label("env", "prod").label("session", "run-06000"), newest),
            "page_runs, a label and a time" by BY_LABEL =>
                page(query().label("env", "prod").started(at(500)..=at(600)), newest),
            "several values of a label" by BY_LABEL =>
                page(query().label_in("session", ["run-06000", "run-09999"]), newest),
            "page_runs, a common key" by BY_LABEL_KEY => page(query().has_label("env"), newest),
            "page_runs, an old key" by BY_LABEL_KEY => page(query().has_label("team"), newest),
            "page_runs, a rare key" by BY_LABEL_KEY => page(query().has_label("rare"), oldest),
            "a rare skill with a common label" by BY_SKILL =>
                page(query().skills(["skill-33"]).label("env", "prod"), newest),
            "a rare status with a common label" by BY_STATUS =>
                page(query().statuses(["cancelled"]).has_label("env"), newest),
            "a common skill with a rare label" by BY_LABEL =>
                page(query().skills(["skill-1"]).label("session", "run-09999"), newest),
            // PostgreSQL reads either index, depending on the values.
            "many values of a label" by [BY_LABEL_KEY[0], "runtrail_run_labels_"] =>
                page(query().label_in("env", (0..20).map(|it| it.to_string())), newest),
            "count_runs_by_query, a rare label" by BY_LABEL =>
                store.count_runs_by_query(&query().label("session", "run-09999")),
        }
        assert!(plans.failures.is_empty(), "{}", plans.failures.join("\n"));
        let page = store
            .page_runs(&query().label("env", "prod").label("session", "run-06000"), newest, first)
            .await
            .unwrap();
        // One of the ten is a dry run.
        assert_eq!(page.items.len(), 9);
    }

    async fn staged_records_are_found_by_their_indexes(database) {
        let (db, seen) = watched(database).await;
        let store = AuditStore::new(db.clone());
        store.initialize().await.unwrap();
        // One large group, of which few records still wait, and many small ones.
        let group = "CASE WHEN number < 20000 THEN 'large' ELSE 'small ' || number / 3 END";
        let run = "CASE WHEN number % 1000 = 0 THEN NULL ELSE 'run' END";
        execute(&db, &format!(
            "INSERT INTO runtrail_staged_records \
                (group_id, id, kind, started_at, received_at, run_id, content) \
            WITH RECURSIVE numbers(number) AS \
                (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < 39999) \
            SELECT {group}, 'id ' || number, 'span', number, number, {run}, '{{}}' FROM numbers"
        ))
        .await;
        let statistics = match database.backend() {
            Backend::Sqlite => "ANALYZE",
            Backend::Postgres => "VACUUM ANALYZE",
        };
        execute(&db, statistics).await;
        let mut plans = Plans::new(&db, seen, database.backend());
        let ids = ["id 1".to_owned(), "id 1000".to_owned()];
        let settled = ids.clone().map(|id| (id, "run".to_owned()));
        const STAGED: [&str; 2] =
            ["sqlite_autoindex_runtrail_staged_records_1", "runtrail_staged_records_pkey"];
        const WAITING: [&str; 2] = ["runtrail_staged_records_waiting"; 2];
        const SETTLED: [&str; 2] = ["runtrail_staged_records_settled"; 2];
        check! { plans:
            "waiting_groups" by WAITING => store.waiting_groups("", 100),
            "waiting_records" by WAITING => store.waiting_records("large", 1_000),
            "find_staged" by STAGED => store.find_staged("large", &ids),
            "settle" by STAGED => store.settle("large", &settled),
            "forget_settled" by SETTLED =>
                store.forget_settled(chrono::DateTime::from_timestamp_micros(100).unwrap()),
        }
        assert!(plans.failures.is_empty(), "{}", plans.failures.join("\n"));
    }

    async fn statistics_use_the_indexes_of_their_runs_and_of_usage(database) {
        let (db, seen) = watched(database).await;
        fill(&db, database.backend()).await;
        execute(
            &db,
            "INSERT INTO skill_run_logs (run_id, sequence, created_at, event_type, payload, \
             duration_micros, provider, model, input_tokens, output_tokens) \
             SELECT id, 1, started_at, 'model_call', '\"some payload of the usual length\"', \
             tool_calls, 'provider', skill_id, total_input_tokens, 10 FROM skill_runs",
        )
        .await;
        let statistics = match database.backend() {
            Backend::Sqlite => "ANALYZE",
            Backend::Postgres => "VACUUM ANALYZE",
        };
        execute(&db, statistics).await;
        let store = AuditStore::new(db.clone());
        store.verify_schema().await.unwrap();
        let mut plans = Plans::new(&db, seen, database.backend());
        let recent = || RunQuery::new().started(at(99_000)..);
        let by_day = |runs: RunQuery| {
            StatisticsQuery::of(runs)
                .group_by([Dimension::Skill])
                .buckets(days())
        };
        let by_model = |runs: RunQuery| StatisticsQuery::of(runs).group_by([Dimension::Model]);
        check! { plans:
            "run_statistics of a time" by BY_START => store.run_statistics(&by_day(recent())),
            "run_statistics of a skill" by BY_SKILL =>
                store.run_statistics(&by_day(RunQuery::new().skills(["skill-33"]))),
            "run_statistics of the last runs of a skill" by BY_SKILL => store.run_statistics(
                &by_day(RunQuery::new().skills(["skill-33"])).last_per_skill(10)
            ),
            "call_statistics of a time, its runs" by BY_START =>
                store.call_statistics(&by_day(recent())),
            "call_statistics of a time, their calls" by USAGE =>
                store.call_statistics(&by_day(recent())),
            "call_statistics of a caller by model, its runs" by BY_CALLER =>
                store.call_statistics(&by_model(RunQuery::new().callers(["caller-7"]))),
            "call_statistics of a caller by model, their calls" by USAGE =>
                store.call_statistics(&by_model(RunQuery::new().callers(["caller-7"]))),
            "usage_by_model of two runs with calls" by USAGE =>
                store.usage_by_model(&["run-000100".into(), "run-000200".into()]),
        }
        assert!(plans.failures.is_empty(), "{}", plans.failures.join("\n"));
    }

    async fn streams_find_news_by_their_indexes(database) {
        let (db, seen) = watched(database).await;
        fill(&db, database.backend()).await;
        let store = AuditStore::new(db.clone());
        let mut plans = Plans::new(&db, seen.clone(), database.backend());
        let is_of_events = |sql: &str| sql.contains("\"skill_run_logs\"");
        let mut checked = 0;
        for (name, statements) in watching(&store, &seen).await {
            for statement in statements {
                let sql = &statement.sql;
                let index = match sql {
                    sql if is_of_events(sql) => EVENTS,
                    sql if sql.contains("RECURSIVE") => RUN,
                    sql if sql.contains("\"finished_at\" >= ") => BY_FINISH,
                    sql if sql.contains("\"status\" = ") || sql.contains("\"status\" >= ") => {
                        BY_STATUS
                    }
                    sql if sql.contains("jsonb") => RUN,
                    _ => BY_START,
                };
                let case = Case {
                    name,
                    index,
                    is_page: false,
                    is_deep: false,
                    depends_on_values: false,
                };
                plans.check_plans(&case, &statement).await;
                checked += 1;
            }
        }
        assert!(checked > 8, "{checked}");
        assert!(plans.failures.is_empty(), "{}", plans.failures.join("\n"));
    }

    async fn reservations_are_found_by_their_indexes(database) {
        let (db, seen) = watched(database).await;
        let store = AuditStore::new(db.clone());
        store.initialize().await.unwrap();
        fill(&db, database.backend()).await;
        // Few reservations are open. With a third of them, reading them all would cost about as much
        // as the lookups that PostgreSQL expects for a group.
        let is_open = "number % 1000 = 0";
        execute(&db, &format!(
            "INSERT INTO runtrail_budget_reservations (id, owner_id, caller_id, skill_id, \
                channel_id, tokens, cost_micros, reserved_at, closed_at) \
            WITH RECURSIVE numbers(number) AS \
                (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < 59999) \
            SELECT 'id ' || number, CASE WHEN number % 7 > 0 THEN 'owner ' || number % 7 END, \
                '', '', '', 1, 1, number, CASE WHEN {is_open} THEN NULL ELSE number END \
            FROM numbers"
        ))
        .await;
        let statistics = match database.backend() {
            Backend::Sqlite => "ANALYZE",
            Backend::Postgres => "VACUUM ANALYZE",
        };
        execute(&db, statistics).await;
        let mut plans = Plans::new(&db, seen, database.backend());
        const KEY: [&str; 2] = [
            "sqlite_autoindex_runtrail_budget_reservations_1",
            "runtrail_budget_reservations_pkey",
        ];
        const OPEN: [&str; 2] = ["runtrail_budget_reservations_open"; 2];
        const OPEN_OR_CLOSED: [&str; 2] = ["runtrail_budget_reservations_"; 2];
        check! { plans:
            "settle_reservation" by KEY =>
                store.settle_reservation("id 1000", &Spending::new()),
            "sweep_interrupted" by OPEN => store.sweep_interrupted(),
            "purge_older_than" by OPEN_OR_CLOSED =>
                store.purge_older_than(chrono::DateTime::from_timestamp_micros(100).unwrap()),
        }
        assert!(plans.failures.is_empty(), "{}", plans.failures.join("\n"));
    }

    async fn each_query_uses_its_index_for_common_and_rare_values(database) {
        let (db, seen) = watched(database).await;
        fill(&db, database.backend()).await;
        let store = AuditStore::new(db.clone());
        store.verify_schema().await.unwrap();
        let mut plans = Plans::new(&db, seen, database.backend());

        let filter = RunFilter::new;
        let query = RunQuery::new;
        let first = PageRequest::first(50);
        let page = |query: RunQuery, order: ListOrder| {
            let (store, first) = (&store, &first);
            async move { store.page_runs(&query, order, first).await.unwrap() }.boxed()
        };
        let list = |filter: RunFilter| {
            let store = &store;
            async move {
                store
                    .list_runs_filtered(&filter, Page::first(50))
                    .await
                    .unwrap()
            }
            .boxed()
        };
        let (newest, oldest) = (ListOrder::NewestFirst, ListOrder::OldestFirst);
        let of_page: Vec<_> = (0..50).map(|n| format!("run-{:06}", 4 * n)).collect();

        check! { plans:
            "get_run" by RUN => store.get_run("run-000100"),
            "list_logs_by_run" by EVENTS => store.list_logs_by_run("run-000100"),
            "list_runs_by_skill, a common one" by BY_SKILL =>
                store.list_runs_by_skill("skill-1", Some(50)),
            "list_runs_by_skill, a rare one" by BY_SKILL =>
                store.list_runs_by_skill("skill-33", Some(50)),
            "list_runs_by_skill, an unknown one" by BY_SKILL =>
                store.list_runs_by_skill("never", Some(50)),
            "list_runs_by_skill_paginated" by BY_SKILL =>
                store.list_runs_by_skill_paginated("skill-33", Page::first(50).skip(50), true),
            "count_runs_by_skill" by BY_SKILL => store.count_runs_by_skill("skill-33", false),
            "list_runs_by_caller" by BY_CALLER => store.list_runs_by_caller("caller-7", Some(50)),
            "list_runs_filtered" by BY_START => list(filter()),
            "list_runs_filtered, a rare status" by BY_STATUS => list(filter().status("cancelled")),
            "list_runs_filtered, an absent status" by BY_STATUS => list(filter().status("never")),
            "list_runs_filtered, a rare channel" by BY_CHANNEL => list(filter().channel("fax")),
            "list_runs_filtered, an absent channel" by BY_CHANNEL =>
                list(filter().channel("never")),
            "list_runs_filtered, top level" by [BY_PARENT[0], BY_START[1]] =>
                list(filter().top_level_only()),
            "list_runs_filtered, a time" by BY_START =>
                list(filter().since(at(500)).until(at(600))),
            "list_runs_filtered, a caller and a common status" by BY_CALLER =>
                list(filter().caller("caller-7").status("ok")),
            "list_runs_filtered, a caller and an uncommon status" by BY_CALLER =>
                list(filter().caller("caller-7").status("error")),
            "list_runs_filtered, a skill and a common status" by BY_SKILL =>
                list(filter().skill("skill-33").status("ok")),
            "count_runs_filtered, a rare status" by BY_STATUS =>
                store.count_runs_filtered(&filter().status("cancelled")),
            "count_runs_filtered, a caller" by BY_CALLER =>
                store.count_runs_filtered(&filter().caller("caller-7")),
            "count_runs_filtered, a common channel, its dry runs" by DRY_RUNS =>
                store.count_runs_filtered(&filter().channel("web")),
            "count_runs_by_skill, its dry runs" by DRY_RUNS =>
                store.count_runs_by_skill("skill-1", false),
            "count_runs_filtered, top level, their dry runs" by DRY_RUNS =>
                store.count_runs_filtered(&filter().top_level_only()),
            "purge_older_than, nothing due" by BY_FINISH => store.purge_older_than(at(-1)),
            "sweep_interrupted, nothing due" by RUNNING_BY_OWNER => store.sweep_interrupted(),
            "list_finished_runs_before" by BY_FINISH =>
                store.list_finished_runs_before(at(60), Some(50)),
            "measure_purge" by BY_FINISH => store.measure_purge(at(60)),
            "list_children_by_parent" by BY_PARENT => store.list_children_by_parent("run-000100"),
            "list_children" by BY_PARENT => store.list_children("run-000100"),
            "list_subtree" by BY_PARENT => store.list_subtree("run-000100"),
            "subtree_totals" by BY_PARENT => store.subtree_totals(&of_page, &query(), 1_000),
            "subtree_totals, their calls" by USAGE =>
                store.subtree_totals(&of_page, &query(), 1_000),
            "subtree_totals of a label" by BY_PARENT =>
                store.subtree_totals(&of_page, &query().label("env", "prod"), 1_000),
            "find_runs" by RUN => store.find_runs(&of_page, &query()),
            "find_runs with a label" by RUN =>
                store.find_runs(&of_page, &query().label("env", "prod")),
            "walk_parent_chain" by RUN => store.walk_parent_chain("run-000103"),
            "last_run_by_skills" by BY_SKILL =>
                store.last_run_by_skills(&["skill-1".into(), "never".into()], true),
            "last_run_by_skills, without failures" by BY_SKILL =>
                store.last_run_by_skills(&["skill-1".into()], false),
            "usage_by_model" by USAGE => store.usage_by_model(&["run-000100".into()]),
            "usage_by_model, two runs" by USAGE =>
                store.usage_by_model(&["run-000100".into(), "run-000200".into()]),
            "append_logs" by RUN =>
                store.append_logs(&[event("run-000100", 7), event("run-000101", 8)]),
            "page_runs" by BY_START => page(query(), newest),
            "page_runs, oldest first" by BY_START => page(query(), oldest),
            "page_runs of a skill" by BY_SKILL => page(query().skills(["skill-33"]), newest),
            "page_runs of a caller" by BY_CALLER => page(query().callers(["caller-7"]), oldest),
            "page_runs of a rare channel" by BY_CHANNEL => page(query().channels(["fax"]), newest),
            "page_runs of a rare status" by BY_STATUS =>
                page(query().statuses(["cancelled"]), newest),
            "page_runs, top level" by [BY_PARENT[0], BY_START[1]] =>
                page(query().top_level_only(), newest),
            "page_runs, without a stored parent" by BY_START =>
                page(query().without_stored_parent(), newest),
            "page_runs, without a stored parent, each looked up" by PARENT_BY_ID =>
                page(query().without_stored_parent(), oldest),
            "page_runs of a rare status, without a stored parent" by BY_STATUS =>
                page(query().statuses(["cancelled"]).without_stored_parent(), newest),
            "page_runs, children" by BY_PARENT => page(query().children_of("run-000100"), newest),
            "page_runs, a time" by BY_START => page(query().started(at(100)..=at(200)), oldest),
            "a page of a prefix" by RUN => page(query().id_prefix("run-00010"), newest),
            "page_runs, exclusions" by BY_START => page(
                query().except_skills(["skill-1", "skill-2"]).except_statuses(["error"]),
                newest,
            ),
            "two common skills" by BY_SKILL =>
                page(query().skills(["skill-0", "skill-1"]), newest),
            "two statuses" by BY_STATUS =>
                page(query().statuses(["error", "cancelled"]), newest),
            "two statuses of a skill" by BY_SKILL =>
                page(query().skills(["skill-33"]).statuses(["error", "ok"]), newest),
            "count_runs_by_query, two rare statuses" by BY_STATUS =>
                store.count_runs_by_query(&query().statuses(["cancelled", "never"])),
            "count_runs_by_query, two rare skills" by BY_SKILL =>
                store.count_runs_by_query(&query().skills(["skill-33", "never"])),
            "page_runs, slow ones" by BY_START =>
                page(query().runtime_seconds(30.0..).total_tokens(500..), newest),
            "page_logs" by EVENTS =>
                store.page_logs("run-000100", &LogFilter::new(), newest, &first),
        }

        // A page deep in the list starts at its cursor.
        let deep = |runs: u64| {
            let (store, query) = (&store, query());
            async move {
                let mut request = PageRequest::first(1_000);
                for _ in 0..runs / 1_000 {
                    let page = store
                        .page_run_summaries(&query, ListOrder::NewestFirst, &request)
                        .await
                        .unwrap();
                    request.cursor = page.end_cursor;
                }
                request
            }
        };
        let request = deep(50_000).await;
        check! { plans:
            "page_runs, deep" by BY_START => store.page_runs(&query(), newest, &request),
            "page_run_summaries, deep" by BY_START =>
                store.page_run_summaries(&query(), newest, &request),
        }
        assert!(plans.failures.is_empty(), "{}", plans.failures.join("\n"));
        assert!(DEPEND_ON_VALUES.iter().all(|name| plans.checked.contains(name)));
    }
}

/// Returns how many rows a statement reads and discards; on SQLite, 0 if its plan searches this
/// index, and [`RUNS`] otherwise.
async fn discarded_rows(db: &DatabaseConnection, statement: &Statement, index: &str) -> u64 {
    if db.get_database_backend() == DbBackend::Sqlite {
        let lines = plan(db, statement).await;
        let searches = |line: &String| line.starts_with("SEARCH") && line.contains(index);
        return if lines.iter().any(searches) {
            0
        } else {
            RUNS as u64
        };
    }
    let sql = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}");
    let lines: Vec<String> = fetch(db, &sql).await;
    let discarded = lines.iter().filter_map(|line| {
        let rows = line.trim().strip_prefix("Rows Removed by Filter: ")?;
        Some(rows.parse::<u64>().unwrap())
    });
    discarded.sum()
}

#[test]
fn a_store_with_its_own_connections_collects_planner_statistics() {
    on_database(Backend::Sqlite, async |database| {
        let db = database.connection().await;
        let has_statistics = async || {
            let tables = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'";
            fetch::<i64>(&db, tables).await[0] == 1
        };
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let events: Vec<_> = (0..9_000).map(|number| event("r", number)).collect();
        store.append_logs(&events).await.unwrap();
        assert!(
            !has_statistics().await,
            "statistics were collected for few rows"
        );
        let events: Vec<_> = (9_000..11_000).map(|number| event("r", number)).collect();
        store.append_logs(&events).await.unwrap();
        // The store collects statistics after it has acknowledged the write.
        store.append_log(&event("r", 11_000)).await.unwrap();
        store.append_log(&event("r", 11_001)).await.unwrap();
        assert!(has_statistics().await);
        store.close().await.unwrap();
    });
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        store.close().await.unwrap();
        let db = database.connection().await;
        let statistics = "SELECT COUNT(*) FROM sqlite_stat1 WHERE tbl = 'skill_runs'";
        assert!(
            fetch::<i64>(&db, statistics).await[0] > 0,
            "closing a store must collect statistics"
        );
    });
}

/// For about a minute, PostgreSQL caches plans that it made while the tables were empty.
#[test]
fn writes_to_a_new_postgres_database_scan_no_whole_table() {
    on_database(Backend::Postgres, async |database| {
        const RUNS: i64 = 4_000;

        let store = database.store().await;
        for number in 0..RUNS {
            let run = with(running(&format!("r-{number}")), |run| {
                run.output = "x".repeat(1_000)
            });
            store.start_run(&run).await.unwrap();
            store.append_logs(&[event(&run.id, 1)]).await.unwrap();
        }
        // Once a connection is closed, the statistics include all its reads.
        store.close().await.unwrap();
        let db = database.connection().await;
        let read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'skill_runs'";
        let read = fetch::<i64>(&db, read).await[0];
        // Scans for the first thousand runs read RUNS² / 32 rows; a scan for each event would read
        // RUNS² / 2.
        assert!(read < RUNS * RUNS / 8, "{read} rows");
    });
}
