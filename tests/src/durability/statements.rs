use std::sync::{Arc, Mutex};

use runtrail_audit::{BulkStorage, Storage};
use runtrail_store::AuditStore;

use crate::fixture::*;

/// Returns a store over a host's connection, and the statements that it sends.
async fn watched(database: &TestDatabase) -> (AuditStore, Arc<Mutex<Vec<String>>>) {
    let statements = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&statements);
    let mut host = database.connection().await;
    host.set_metric_callback(move |info| seen.lock().unwrap().push(info.statement.sql.clone()));
    let store = AuditStore::new(host);
    store.initialize().await.unwrap();
    statements.lock().unwrap().clear();
    (store, statements)
}

on_each_backend! {
    async fn a_write_is_one_statement_without_returning(database) {
        let (store, statements) = watched(database).await;
        let sent = || std::mem::take(&mut *statements.lock().unwrap());

        store.start_run(&running("r")).await.unwrap();
        let start = sent();
        store.append_log(&event("r", 0)).await.unwrap();
        let append = sent();
        store
            .append_logs(&[event("r", 1), event("r", 2)])
            .await
            .unwrap();
        let append_many = sent();
        store.finish_run("r", &stats()).await.unwrap();
        let finish = sent();
        store.start_run(&finished_at("s", 1)).await.unwrap();
        let record = sent();

        for (statements, verb) in [
            (start, "INSERT"),
            (append, "INSERT"),
            (append_many, "INSERT"),
            (finish, "UPDATE"),
            (record, "INSERT"),
        ] {
            assert_eq!(statements.len(), 1, "{statements:?}");
            assert!(statements[0].starts_with(verb), "{statements:?}");
            assert!(!statements[0].contains("RETURNING"), "{statements:?}");
        }
    }

    async fn a_purge_with_nothing_due_is_one_query(database) {
        let (store, statements) = watched(database).await;
        store.start_run(&finished_at("r", 2)).await.unwrap();
        statements.lock().unwrap().clear();
        assert_eq!(store.purge_older_than(at(1)).await.unwrap(), 0);
        let sent = statements.lock().unwrap();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].starts_with("SELECT"), "{sent:?}");
    }

    async fn a_repeated_write_adds_one_query(database) {
        let (store, statements) = watched(database).await;
        store.start_run(&finished_at("r", 1)).await.unwrap();
        store.append_log(&event("r", 0)).await.unwrap();
        let stats = finished_at("r", 1).stats();
        statements.lock().unwrap().clear();
        store.start_run(&finished_at("r", 1)).await.unwrap();
        store.append_log(&event("r", 0)).await.unwrap();
        store.finish_run("r", &stats).await.unwrap();
        let statements = statements.lock().unwrap().clone();
        let verbs: Vec<_> = statements.iter().map(|sql| &sql[..6]).collect();
        assert_eq!(
            verbs,
            ["INSERT", "SELECT", "INSERT", "SELECT", "UPDATE", "SELECT"]
        );
    }

    async fn a_purge_uses_bounded_statements_without_returning(database) {
        let (store, statements) = watched(database).await;
        for number in 0..600 {
            store
                .start_run(&finished_at(&number.to_string(), 1))
                .await
                .unwrap();
        }
        statements.lock().unwrap().clear();
        assert_eq!(store.purge_older_than(at(2)).await.unwrap(), 600);
        let statements = statements.lock().unwrap().clone();
        let deletes = statements
            .iter()
            .filter(|sql| sql.starts_with("DELETE FROM \"skill_runs\""))
            .count();
        assert_eq!(deletes, 6, "batches of 100");
        for sql in statements.iter() {
            assert!(
                sql.starts_with("SELECT") || sql.starts_with("DELETE"),
                "{sql}"
            );
            assert!(!sql.contains("RETURNING"), "{sql}");
        }
    }

    async fn a_purge_deletes_a_few_runs_with_their_events_at_a_time(database) {
        let (store, statements) = watched(database).await;
        let db = database.connection().await;
        for number in 0..20 {
            store
                .start_run(&finished_at(&format!("{number:02}"), 1))
                .await
                .unwrap();
        }
        let series = match database.backend() {
            Backend::Sqlite => {
                "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE \
                value < 300)"
            }
            Backend::Postgres => "WITH n(value) AS (SELECT generate_series(1, 300))",
        };
        execute(
            &db,
            &format!(
                "{series} INSERT INTO skill_run_logs \
            (run_id, sequence, created_at, event_type, payload) SELECT id, value, 0, 'x', '1' \
            FROM n, skill_runs"
            ),
        )
        .await;
        statements.lock().unwrap().clear();
        assert_eq!(store.purge_older_than(at(2)).await.unwrap(), 20);
        let statements = statements.lock().unwrap().clone();
        let deletes: Vec<_> = statements
            .iter()
            .filter(|sql| sql.starts_with("DELETE") && !sql.contains("FROM \"runtrail_"))
            .collect();
        assert_eq!(
            deletes.len(),
            7,
            "three runs of 300 events at a time: {statements:#?}"
        );
        assert!(
            deletes
                .iter()
                .all(|sql| sql.starts_with("DELETE FROM \"skill_runs\"")),
            "{deletes:#?}"
        );
        assert_eq!(count(&db, "skill_run_logs").await, 0);
    }

    async fn an_ancestry_is_walked_in_one_statement(database) {
        let (store, statements) = watched(database).await;
        for number in 1..50 {
            store
                .start_run(&child(&number.to_string(), &(number - 1).to_string()))
                .await
                .unwrap();
        }
        statements.lock().unwrap().clear();
        assert_eq!(store.walk_parent_chain("49").await.unwrap().len(), 49);
        assert_eq!(statements.lock().unwrap().len(), 1);
    }

    async fn a_list_has_the_same_sql_whatever_its_page_and_values(database) {
        let (store, statements) = watched(database).await;
        store.list_runs_by_skill("a", None).await.unwrap();
        store.list_runs_by_skill("b", Some(7)).await.unwrap();
        store
            .last_run_by_skills(&["a".into()], false)
            .await
            .unwrap();
        store
            .last_run_by_skills(&["a".into(), "b".into(), "c".into()], false)
            .await
            .unwrap();
        let statements = statements.lock().unwrap().clone();
        assert_eq!(statements[0], statements[1]);
        assert_eq!(statements[2], statements[3]);
    }

    async fn a_schema_is_checked_once(database) {
        let (store, statements) = watched(database).await;
        for _ in 0..3 {
            store.clone().list_logs_by_run("r").await.unwrap();
        }
        assert_eq!(statements.lock().unwrap().len(), 3);
    }
}
