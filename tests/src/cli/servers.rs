//! PostgreSQL servers, roles and poolers with restrictions.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::fixture::*;

const ROLE: &str = "runtrail_test_one_connection";

#[test]
fn a_role_with_one_connection_can_run_every_command() {
    on_database(Backend::Postgres, async |database| {
        database.store().await.close().await.unwrap();
        let db = database.connection().await;
        execute(
            &db,
            &format!(
                "DROP ROLE IF EXISTS {ROLE}; \
                 CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}' CONNECTION LIMIT 1; \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}"
            ),
        )
        .await;
        let mut url = url::Url::parse(&database.url()).unwrap();
        url.set_username(ROLE).unwrap();
        url.set_password(Some(ROLE)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            runtrail_command(folder.path())
                .env("DATABASE_URL", url.as_str())
                .args(arguments)
                .output()
                .unwrap()
        };
        for arguments in [
            &["exec", "--id", "r", "echo", "hi"][..],
            &["list"],
            &["show", "r"],
            &["logs", "r"],
            &["export", "--output", "lines"],
            &["import", "lines"],
            &["migrate", "status"],
            &["purge", "--older-than", "0s", "--yes"],
        ] {
            let output = run(arguments);
            assert!(
                output.status.success(),
                "{arguments:?}: {}",
                stderr(&output)
            );
        }

        // If no connection is free, the server's reason is reported soon.
        let mut options = sea_orm::ConnectOptions::new(url.as_str());
        options.max_connections(1).sqlx_logging(false);
        let only = sea_orm::Database::connect(options).await.unwrap();
        let begun = Instant::now();
        let output = run(&["list"]);
        assert!(
            stderr(&output).contains("too many connections"),
            "{}",
            stderr(&output)
        );
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{:?}",
            begun.elapsed()
        );
        only.close().await.unwrap();
        execute(&db, &format!("DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")).await;
    });
}

#[test]
fn a_refused_connection_is_reported_soon_and_with_its_reason() {
    // Bound but not listening, so that no other test can get the port.
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refusing = reserved.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let output = runtrail_command(folder.path())
        .args([
            "--database-url",
            &format!("postgres://me@{refusing}/app"),
            "list",
        ])
        .output()
        .unwrap();
    assert!(
        stderr(&output).contains("Connection refused"),
        "{}",
        stderr(&output)
    );
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_statement_timeout_is_not_blamed_on_the_url() {
    on_database(Backend::Postgres, async |database| {
        database.store().await.close().await.unwrap();
        let db = database.connection().await;
        let lock = db.begin().await.unwrap();
        lock.execute_unprepared("LOCK TABLE skill_runs")
            .await
            .unwrap();
        let url = format!("{}?options[statement_timeout]=300", database.url());
        let folder = tempfile::tempdir().unwrap();
        let output = runtrail_command(folder.path())
            .args(["--database-url", &url, "list"])
            .output()
            .unwrap();
        let message = stderr(&output);
        assert!(
            message.contains("statement_timeout is too short"),
            "{message}"
        );
        assert!(!message.contains("URL"), "{message}");
        lock.rollback().await.unwrap();
    });
}

#[test]
fn a_pooler_without_prepared_statements_is_supported() {
    on_database(Backend::Postgres, async |database| {
        database.store().await.close().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut was_hinted = false;
        for _ in 0..5 {
            for arguments in [&["exec", "echo", "hi"][..], &["list"], &["count"]] {
                let run = |switch: &[&str]| {
                    runtrail_command(folder.path())
                        .env("DATABASE_URL", database.pooled_url())
                        .args(switch)
                        .args(arguments)
                        .output()
                        .unwrap()
                };
                let output = run(&["--without-prepared-statements"]);
                assert!(
                    output.status.success(),
                    "{arguments:?}: {}",
                    stderr(&output)
                );
                let message = stderr(&run(&[]));
                if message.contains("prepared statement") {
                    was_hinted = true;
                    assert!(
                        message.contains("--without-prepared-statements"),
                        "{message}"
                    );
                }
            }
        }
        assert!(
            was_hinted,
            "the pooler supports prepared statements, so the case proves nothing"
        );
    });
}
