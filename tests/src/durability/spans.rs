use runtrail_audit::{ErrorKind, Storage};
use runtrail_db::DatabaseOptions;
use runtrail_store::AuditStore;

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
        store.close().await.unwrap();
    });
    let logged = reports.text();
    for method in methods_of_a_store() {
        let span = match method.as_str() {
            "stream_runs_by_query" => "stream_runs",
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
