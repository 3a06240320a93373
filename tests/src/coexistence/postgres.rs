use runtrail_audit::{
    Amount, Budget, BudgetPeriod, Budgets, BulkStorage, ErrorKind, Owner, Ownership, PagedStorage,
    ReservationRequest, RunFilter, RunLabels, RunQuery, Spending, Storage,
};
use runtrail_migration::{Migrator, SchemaName, SchemaState};
use runtrail_store::AuditStore;
use sea_orm::DatabaseConnection;
use url::Url;

use crate::fixture::*;

/// Sends every kind of statement once.
async fn assert_works(store: &impl Storage, id: &str) {
    store.start_run(&running(id)).await.unwrap();
    store.append_log(&event(id, 0)).await.unwrap();
    store.append_log(&event(id, 0)).await.unwrap();
    store.finish_run(id, &stats()).await.unwrap();
    store.finish_run(id, &stats()).await.unwrap();
    store.start_run(&running(id)).await.unwrap();
    assert_kind(
        store.append_log(&event("unknown", 0)).await,
        ErrorKind::NotFound,
    );
    assert_eq!(store.get_run(id).await.unwrap().stats(), stats());
    assert_eq!(
        store.list_logs_by_run(id).await.unwrap()[0].payload,
        event(id, 0).payload
    );
    assert!(
        store
            .count_runs_filtered(&RunFilter::new().skill("skill"))
            .await
            .unwrap()
            > 0
    );
    assert!(
        !store
            .list_runs_by_skill("skill", Some(5))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.list_children_by_parent(id).await.unwrap().is_empty());
    assert_eq!(ids(&store.walk_parent_chain(id).await.unwrap()), [id]);
    assert_eq!(
        store
            .last_run_by_skills(&["skill".into()], false)
            .await
            .unwrap()["skill"],
        at(0)
    );
    assert_eq!(store.purge_older_than(at(-1_000_000)).await.unwrap(), 0);
}

/// Returns the URL of a database for another role, whose password is its name.
fn url_as(url: &str, role: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    url.set_username(role).unwrap();
    url.set_password(Some(role)).unwrap();
    url.into()
}

async fn schema(db: &DatabaseConnection, name: &str) -> SchemaName {
    execute(db, &format!("CREATE SCHEMA {name}")).await;
    SchemaName::new(name).unwrap()
}

async fn tables_in(db: &DatabaseConnection, schema: &str) -> Vec<String> {
    let query =
        format!("SELECT tablename::text FROM pg_tables WHERE schemaname = '{schema}' ORDER BY 1");
    fetch(db, &query).await
}

const TABLES: [&str; 10] = [
    "runtrail_budget_charges",
    "runtrail_budget_reservations",
    "runtrail_budget_usage",
    "runtrail_budgets",
    "runtrail_migrations",
    "runtrail_owners",
    "runtrail_run_labels",
    "runtrail_staged_records",
    "skill_run_logs",
    "skill_runs",
];

#[test]
fn a_role_without_the_right_to_create_tables_can_use_a_migrated_database() {
    on_database(Backend::Postgres, async |database| {
        const ROLE: &str = "runtrail_test_no_ddl";
        let db = database.connection().await;
        execute(
            &db,
            &format!("DROP ROLE IF EXISTS {ROLE}; CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'"),
        )
        .await;
        // Before PostgreSQL 15, every role may create tables there.
        execute(&db, "REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
        let store = AuditStore::connect(url_as(&database.url(), ROLE))
            .await
            .unwrap();
        assert_kind(
            store.start_run(&running("r")).await,
            ErrorKind::SchemaMissing,
        );
        assert_kind(store.initialize().await, ErrorKind::Backend);

        Migrator::new().up(&db, None).await.unwrap();
        execute(
            &db,
            &format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON skill_runs, skill_run_logs, \
                runtrail_owners, runtrail_budget_reservations TO {ROLE}"
            ),
        )
        .await;
        execute(
            &db,
            &format!(
                "GRANT SELECT ON runtrail_run_labels, runtrail_budgets, runtrail_budget_usage, \
                runtrail_budget_charges TO {ROLE}"
            ),
        )
        .await;
        execute(
            &db,
            &format!("GRANT SELECT ON runtrail_migrations TO {ROLE}"),
        )
        .await;
        store.initialize().await.unwrap();
        assert_works(&store, "r").await;
        let labelled = finished_at("labelled", 1).label("env", "prod");
        store.start_run(&labelled).await.unwrap();
        let query = RunQuery::new().label("env", "prod");
        assert_eq!(store.count_runs_by_query(&query).await.unwrap(), 1);
        assert_eq!(store.purge_older_than(at(2)).await.unwrap(), 1);
        // The role may reserve, but not change a budget.
        let budget = Budget::new("b", Amount::Tokens(10), BudgetPeriod::day());
        assert_kind(store.set_budget(&budget).await, ErrorKind::Backend);
        AuditStore::new(db.clone())
            .set_budget(&budget)
            .await
            .unwrap();
        let amount = Spending::new().tokens(6);
        let request = ReservationRequest::new("1", amount);
        store.reserve(&request).await.unwrap();
        let refused = store.reserve(&ReservationRequest::new("2", amount)).await;
        assert_kind(refused, ErrorKind::OverBudget);
        store.settle_reservation("1", &amount).await.unwrap();

        // Even the migration records needn't be readable: the tables are checked instead.
        execute(
            &db,
            &format!("REVOKE ALL ON runtrail_migrations FROM {ROLE}"),
        )
        .await;
        execute(
            &db,
            "CREATE TABLE seaql_migrations (version text, applied_at bigint)",
        )
        .await;
        let store = AuditStore::connect(url_as(&database.url(), ROLE))
            .await
            .unwrap();
        store.initialize().await.unwrap();
        assert_works(&store, "s").await;

        store.close().await.unwrap();
        execute(&db, &format!("DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")).await;
    });
}

#[test]
fn a_schema_other_than_public_is_named_in_every_statement() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        let audit = schema(&db, "audit").await;
        let store = AuditStore::connect(database.url())
            .await
            .unwrap()
            .in_schema(audit.clone());
        assert_kind(
            store.start_run(&running("r")).await,
            ErrorKind::SchemaMissing,
        );
        store.initialize().await.unwrap();
        assert_works(&store, "r").await;
        assert_eq!(tables_in(&db, "audit").await, TABLES);
        assert!(tables_in(&db, "public").await.is_empty());

        // A purge sends several statements, which name the schema too.
        store.start_run(&finished_at("old", 1)).await.unwrap();
        store.append_log(&event("old", 0)).await.unwrap();
        assert_eq!(store.purge_older_than(at(2)).await.unwrap(), 1);

        assert!(
            !Migrator::in_schema(audit.clone())
                .deleting_rows()
                .down(&db, 99)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            Migrator::in_schema(audit).state(&db).await.unwrap(),
            SchemaState::Missing
        );
    });
}

#[test]
fn the_script_for_a_schema_creates_the_tables_there() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        let audit = schema(&db, "audit").await;
        let script = runtrail_migration::script(sea_orm::DbBackend::Postgres, Some(&audit));
        execute(&db, &script).await;
        assert_eq!(tables_in(&db, "audit").await, TABLES);
        let store = AuditStore::new(db.clone()).in_schema(audit);
        assert_works(&store, "r").await;
    });
}

#[test]
fn two_schemas_of_one_database_hold_two_histories() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        let audit = schema(&db, "audit").await;
        let in_public = AuditStore::connect(database.url()).await.unwrap();
        let in_audit = AuditStore::new(db.clone()).in_schema(audit);
        in_public.initialize().await.unwrap();
        in_audit.initialize().await.unwrap();
        in_public.start_run(&running("public")).await.unwrap();
        in_audit.start_run(&running("audit")).await.unwrap();
        assert_kind(in_public.get_run("audit").await, ErrorKind::NotFound);
        in_audit.start_run(&child("child", "public")).await.unwrap();
        let without_stored_parent = RunQuery::new().without_stored_parent();
        let top = in_audit.count_runs_by_query(&without_stored_parent).await;
        assert_eq!(top.unwrap(), 2);
        assert_kind(in_audit.get_run("public").await, ErrorKind::NotFound);
        assert_eq!(tables_in(&db, "audit").await, TABLES);
        assert_eq!(tables_in(&db, "public").await, TABLES);
    });
}

#[test]
fn a_schema_on_the_search_path_is_used_without_naming_it() {
    on_database(Backend::Postgres, async |database| {
        let admin = database.connection().await;
        schema(&admin, "audit").await;
        set_for_database(&admin, "search_path = audit").await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        assert_works(&store, "r").await;
        assert_eq!(tables_in(&admin, "audit").await, TABLES);
        assert!(tables_in(&admin, "public").await.is_empty());
    });
}

async fn set_for_database(db: &DatabaseConnection, setting: &str) {
    let name: String = fetch::<String>(db, "SELECT current_database()::text")
        .await
        .remove(0);
    execute(db, &format!("ALTER DATABASE {name} SET {setting}")).await;
}

#[test]
fn tables_further_down_the_search_path_are_not_created_again() {
    on_database(Backend::Postgres, async |database| {
        let admin = database.connection().await;
        // As a host's migrator creates them: in public, and without records in our own table.
        Migrator::new().up(&admin, None).await.unwrap();
        execute(&admin, "DROP TABLE runtrail_migrations").await;
        schema(&admin, "mine").await;
        set_for_database(&admin, "search_path = mine, public").await;

        let db = database.connection().await;
        Migrator::new().up(&db, None).await.unwrap();
        assert!(tables_in(&admin, "mine").await.is_empty());
        assert_eq!(tables_in(&admin, "public").await, TABLES);
    });
}

#[test]
fn concurrent_migrations_succeed_whatever_the_default_isolation_level() {
    on_database(Backend::Postgres, async |database| {
        let admin = database.connection().await;
        set_for_database(&admin, "default_transaction_isolation = 'repeatable read'").await;
        initialize_concurrently(database, 16).await;
    });
}

#[test]
fn a_schema_that_does_not_exist_is_refused() {
    on_database(Backend::Postgres, async |database| {
        let nowhere = SchemaName::new("nowhere").unwrap();
        let store = AuditStore::connect(database.url())
            .await
            .unwrap()
            .in_schema(nowhere);
        assert_kind(
            store.start_run(&running("r")).await,
            ErrorKind::SchemaMissing,
        );
        assert_invalid(store.initialize().await, "schema");
    });
}

#[test]
fn a_schema_name_that_would_need_quoting_is_refused() {
    for name in [
        "",
        "Audit",
        "1st",
        "a-b",
        "a b",
        "a\"b",
        "a;b",
        "é",
        &"a".repeat(64),
    ] {
        assert!(SchemaName::new(name).is_err(), "{name}");
    }
    for name in ["a", "_", "audit_2", &"a".repeat(63)] {
        assert!(SchemaName::new(name).is_ok(), "{name}");
    }
}

#[test]
fn sqlite_ignores_the_name_of_a_schema() {
    on_database(Backend::Sqlite, async |database| {
        let audit = SchemaName::new("audit").unwrap();
        let store = AuditStore::connect(database.url())
            .await
            .unwrap()
            .in_schema(audit);
        store.initialize().await.unwrap();
        assert_works(&store, "r").await;
    });
}

#[test]
fn a_store_works_through_a_pooler_in_transaction_mode() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        let audit = schema(&db, "audit").await;
        Migrator::in_schema(audit.clone())
            .up(&db, None)
            .await
            .unwrap();

        let work = async |worker: usize| {
            let store = AuditStore::connect(database.pooled_url()).await.unwrap();
            let store = store.in_schema(audit.clone()).without_prepared_statements();
            store.initialize().await.unwrap();
            for number in 0..20 {
                assert_works(&store, &format!("{worker}-{number}")).await;
            }
            store.close().await.unwrap();
        };
        futures_util::future::join_all((0..8).map(work)).await;
        assert_eq!(count(&db, "audit.skill_runs").await, 160);
        assert_eq!(count(&db, "audit.skill_run_logs").await, 160);
    });
}

#[test]
fn values_are_read_back_unchanged_without_prepared_statements() {
    on_database(Backend::Postgres, async |database| {
        let prepared = AuditStore::connect(database.url()).await.unwrap();
        prepared.initialize().await.unwrap();
        let unprepared = prepared.clone().without_prepared_statements();
        let awkward = [
            "'",
            "''",
            "\\",
            "\\'",
            "$1",
            "?",
            "E'\\x41'",
            "\n\t\r\u{8}\u{1}",
            "\u{1F600}",
            "%s",
            "--",
            "/*",
            "\u{FFFD}",
        ];
        for (number, text) in awkward.iter().enumerate() {
            let run = with(finished_at(&format!("{number} {text}"), 1), |run| {
                run.skill_id = (*text).into();
                run.output = (*text).into();
                run.inputs =
                    object(serde_json::json!({ *text: [text, f64::MAX, 5e-324, u64::MAX] }));
                run.runtime_seconds = [f64::MAX, 5e-324, 0.1, 1.0 / 3.0][number % 4];
                run.total_input_tokens = i64::MAX as u64;
                run.started_at = chrono::DateTime::<chrono::Utc>::MIN_UTC;
            });
            unprepared.start_run(&run).await.unwrap();
            assert_eq!(unprepared.get_run(&run.id).await.unwrap(), run);
            assert_eq!(prepared.get_run(&run.id).await.unwrap(), run);
            let event = with(event(&run.id, 0), |event| {
                event.event_type = (*text).into();
                event.payload = serde_json::json!([text, "\u{0}"]);
                event.created_at = Some(at(0));
            });
            unprepared
                .append_logs(std::slice::from_ref(&event))
                .await
                .unwrap();
            assert_eq!(prepared.list_logs_by_run(&run.id).await.unwrap(), [event]);
            assert_eq!(
                ids(&unprepared.list_runs_by_skill(text, None).await.unwrap()),
                [run.id.as_str()]
            );
            let last_runs = unprepared
                .last_run_by_skills(&[(*text).into()], false)
                .await
                .unwrap();
            assert_eq!(last_runs[*text], run.started_at);
        }
    });
}

#[test]
fn owners_work_in_a_named_schema() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        let schema = schema(&db, "audit").await;
        let owner = Owner::new("label").id("o");
        // The default schema has had a heartbeat, but this one has not.
        let store = database.store().await.with_owner(owner);
        store.heartbeat().await.unwrap();
        let store = store.in_schema(schema);
        store.initialize().await.unwrap();
        store.start_run(&running("r")).await.unwrap();
        assert!(store.find_owner("o").await.unwrap().unwrap().is_alive);
        let stale = RunQuery::new().stale_since(at(5));
        assert_eq!(store.count_runs_by_query(&stale).await.unwrap(), 0);
        execute(
            &db,
            "DROP TABLE public.runtrail_owners, public.skill_run_logs, public.skill_runs",
        )
        .await;
        execute(&db, "UPDATE audit.runtrail_owners SET last_seen_at = 1").await;
        assert_eq!(store.count_runs_by_query(&stale).await.unwrap(), 1);
        assert_eq!(store.sweep_interrupted().await.unwrap(), 1);
        store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(store.purge_older_than(at(1_000_000_000)).await.unwrap(), 1);
        assert_eq!(store.find_owner("o").await.unwrap(), None);
    });
}

#[test]
fn labels_work_in_a_named_schema_whatever_the_search_path() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        let schema = schema(&db, "audit").await;
        let store = database.store().await;
        let named = store.clone().in_schema(schema);
        named.initialize().await.unwrap();
        named
            .start_run(&running("r").label("env", "prod"))
            .await
            .unwrap();
        named
            .start_run(&running("other").label("env", "dev"))
            .await
            .unwrap();
        named
            .add_labels("other", &running("").label("env", "prod").labels)
            .await
            .unwrap();
        let query = RunQuery::new().label("env", "prod");
        assert_eq!(named.count_runs_by_query(&query).await.unwrap(), 2);
        assert_eq!(store.count_runs_by_query(&query).await.unwrap(), 0);
        assert_eq!(count(&db, "runtrail_run_labels").await, 0);
        named
            .start_run(&finished_at("old", 1).label("env", "prod"))
            .await
            .unwrap();
        assert_eq!(named.purge_older_than(at(2)).await.unwrap(), 1);
        assert_eq!(named.count_runs_by_query(&query).await.unwrap(), 2);
    });
}

#[test]
fn budgets_work_in_a_named_schema_whatever_the_search_path() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        let schema = schema(&db, "audit").await;
        let store = database.store().await;
        let named = store.clone().in_schema(schema);
        named.initialize().await.unwrap();
        let budget = Budget::new("b", Amount::Tokens(10), BudgetPeriod::day());
        named.set_budget(&budget).await.unwrap();
        let amount = Spending::new().tokens(6);
        for id in ["1", "2"] {
            let reserved = named.reserve(&ReservationRequest::new(id, amount)).await;
            assert_eq!(reserved.is_ok(), id == "1");
        }
        named.settle_reservation("1", &amount).await.unwrap();
        let status = named.find_budget("b").await.unwrap().unwrap();
        assert_eq!((status.used, status.reserved), (6, 0));
        assert_eq!(named.purge_older_than(at(2)).await.unwrap(), 0);
        assert_eq!(named.sweep_interrupted().await.unwrap(), 0);
        assert_eq!(store.list_budgets().await.unwrap(), []);
        named.remove_budget("b").await.unwrap();
        assert_eq!(count(&db, "audit.runtrail_budget_usage").await, 0);
    });
}
