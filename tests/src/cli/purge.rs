use std::io::{Read, Write};

use runtrail_audit::{BulkStorage, Storage};

use crate::fixture::*;

/// Three finished runs with two events each, and a running one.
async fn some_runs(cli: &Cli) {
    for id in ["a", "b", "c"] {
        cli.store.start_run(&finished_at(id, 5)).await.unwrap();
        cli.store
            .append_logs(&[event(id, 0), event(id, 1)])
            .await
            .unwrap();
    }
    cli.store.start_run(&running("running")).await.unwrap();
}

/// Answers the prompt of a purge, and returns the exit code and everything that was printed.
fn answer(cli: &Cli, answer: &str) -> (i32, String) {
    let mut terminal = Terminal::open();
    let mut child = cli
        .command(&["purge", "--older-than", "2026-11-02"])
        .stdin(terminal.stream())
        .stderr(terminal.stream())
        .spawn()
        .unwrap();
    let question = terminal.shown_until("[y/N] ");
    terminal.user.write_all(answer.as_bytes()).unwrap();
    let status = ended(&mut child);
    let shown = question + &terminal.rest();
    let mut printed = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    (status.code().unwrap(), shown + &printed)
}

on_each_backend! {
    async fn a_dry_run_prints_exactly_what_would_be_deleted(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        let message = cli.succeeds(&["purge", "--older-than", "2026-11-02", "--dry-run"]);
        assert_eq!(
            message,
            "would delete 3 runs with 6 events that finished before 2026-11-02T00:00:00.000000Z\n"
        );
        let message = cli.succeeds(&[
            "purge",
            "--older-than",
            "2026-11-01T08:00:05Z",
            "--dry-run",
            "--yes",
        ]);
        assert_eq!(
            message,
            "would delete 0 runs with 0 events that finished before 2026-11-01T08:00:05.000000Z\n"
        );
        assert_eq!(cli.succeeds(&["count"]), "4\n");
    }

    async fn with_yes_a_purge_deletes_and_prints_the_count(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        let message = cli.succeeds(&["purge", "--older-than", "2026-11-02", "--yes"]);
        assert_eq!(
            message,
            "deleted 3 runs that finished before 2026-11-02T00:00:00.000000Z\n"
        );
        assert_eq!(cli.run("running").await, running("running"));
        let db = database.connection().await;
        assert_eq!(count(&db, "skill_run_logs").await, 0);
        let again = cli.succeeds(&["purge", "--older-than", "2026-11-02"]);
        assert_eq!(
            again,
            "nothing to delete: no run finished before 2026-11-02T00:00:00.000000Z\n"
        );
    }

    async fn without_a_terminal_or_yes_a_purge_deletes_nothing(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        let message = cli.fails(2, &["purge", "--older-than", "2026-11-02"]);
        assert!(message.contains("--yes"), "{message}");
        assert_eq!(cli.succeeds(&["count"]), "4\n");
    }

    async fn runs_that_cannot_be_deleted_are_reported_and_the_others_are_deleted(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        let db = database.connection().await;
        execute(
            &db,
            "CREATE TABLE tickets (run_id TEXT REFERENCES skill_runs (id))",
        )
        .await;
        execute(&db, "INSERT INTO tickets VALUES ('b')").await;
        let output = cli.output(&["purge", "--older-than", "2026-11-02", "--yes"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stdout(&output).starts_with("deleted 2 runs that "),
            "{}",
            stdout(&output)
        );
        let message = stderr(&output);
        assert!(
            message.contains("\"b\"") && message.contains("1 run could not be deleted"),
            "{message}"
        );
        assert_eq!(cli.store.list_logs_by_run("b").await.unwrap().len(), 2);
    }

    async fn a_purge_that_fails_prints_how_much_it_has_deleted(database) {
        let cli = Cli::on(database).await;
        for number in 0..130 {
            let run = finished_at(&format!("r{number:03}"), 5);
            cli.store.start_run(&run).await.unwrap();
        }
        // This failure ends the purge, unlike a refusal to delete the run.
        let statements: &[&str] = match database.backend() {
            Backend::Sqlite => &[
                "CREATE TRIGGER fail BEFORE DELETE ON skill_runs WHEN OLD.id = 'r120' \
                 BEGIN SELECT json('not JSON'); END",
            ],
            Backend::Postgres => &[
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN PERFORM 1 / 0; RETURN OLD; END'",
                "CREATE TRIGGER fail BEFORE DELETE ON skill_runs FOR EACH ROW \
                 WHEN (OLD.id = 'r120') EXECUTE FUNCTION fail()",
            ],
        };
        let db = database.connection().await;
        for statement in statements {
            execute(&db, statement).await;
        }
        let output = cli.output(&["purge", "--older-than", "2026-11-02", "--yes"]);
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(
            message.contains("stopped after 100 runs had been deleted"),
            "{message}"
        );
        assert_eq!(cli.succeeds(&["count"]), "30\n");
    }

    async fn a_time_in_the_future_is_refused(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        for switch in ["--yes", "--dry-run"] {
            let message = cli.fails(2, &["purge", "--older-than", "2999-01-01", switch]);
            assert!(message.contains("in the future"), "{message}");
        }
        let output = cli.output(&["purge", "--older-than", "30 tides", "--yes"]);
        assert_eq!(output.status.code(), Some(2));
        let message = stderr(&output);
        assert!(
            message.contains("s, m, h, d, w, M for months, y"),
            "{message}"
        );
        assert_eq!(cli.succeeds(&["count"]), "4\n");
    }

    async fn on_a_terminal_a_purge_asks_for_confirmation(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        for refusal in ["n\n", "\n", "\u{4}"] {
            let (code, shown) = answer(&cli, refusal);
            assert_eq!(code, 1, "{shown}");
            let question = "Delete 3 runs with 6 events that finished before \
                2026-11-02T00:00:00.000000Z? [y/N] ";
            assert!(
                shown.contains(question) && shown.contains("nothing was deleted"),
                "{shown}"
            );
            assert_eq!(cli.succeeds(&["count"]), "4\n");
        }
        let (code, shown) = answer(&cli, "y\n");
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("deleted 3 runs"), "{shown}");
        assert_eq!(cli.succeeds(&["count"]), "1\n");
    }
}
