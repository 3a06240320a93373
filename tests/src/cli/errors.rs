use std::fs;
use std::os::unix::fs::symlink;

use runtrail_audit::Storage;

use crate::fixture::*;

on_each_backend! {
    async fn an_unknown_run_is_reported_with_its_own_exit_code(database) {
        let cli = Cli::on(database).await;
        for command in ["show", "tree", "logs", "chain"] {
            for json in [&[][..], &["--json"]] {
                let message = cli.fails(4, &[&[command, "no such run"], json].concat());
                assert_eq!(
                    message,
                    "error: there is no run with id \"no such run\"; `runtrail list` shows the \
                    newest runs\n"
                );
            }
        }
        cli.fails(4, &["logs", "--follow", "nope"]);
    }

    async fn an_invalid_id_is_a_usage_error(database) {
        let cli = Cli::on(database).await;
        let long = "x".repeat(256);
        for command in ["show", "tree", "logs", "chain"] {
            assert!(cli.fails(2, &[command, ""]).contains("is empty"));
            assert!(
                cli.fails(2, &[command, &long])
                    .contains("has 256 bytes, more than 255")
            );
        }
        cli.fails(2, &["list", "--skill", &long]);
        cli.fails(2, &["last", &long]);
    }

    async fn invalid_arguments_are_usage_errors(database) {
        let cli = Cli::on(database).await;
        for (arguments, part) in [
            (vec!["frobnicate"], "unrecognized subcommand"),
            (vec!["exec"], "required arguments"),
            (
                vec!["exec", "--input", "no-value", "true"],
                "expected KEY=VALUE",
            ),
            (
                vec!["exec", "--timeout", "soon", "true"],
                "expected a duration such as 30s",
            ),
            (
                vec!["exec", "--timeout", "0s", "true"],
                "must be longer than 0",
            ),
            (
                vec!["list", "--since", "yesterday"],
                "expected a time such as",
            ),
            (vec!["list", "--limit", "-1"], "unexpected argument"),
            (vec!["list", "--limit", "many"], "invalid digit"),
            (vec!["purge"], "--older-than"),
            (vec!["last"], "<SKILL>"),
            (vec!["import"], "<FILE>"),
            (vec!["completions", "dos"], "invalid value"),
            (
                vec!["--database-schema", "no such", "count"],
                "a schema name has",
            ),
            (
                vec!["-u", "sqlite::memory:", "exec", "true"],
                "an in-memory database is lost",
            ),
        ] {
            let output = cli.output(&arguments);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(
                stderr(&output).contains(part),
                "{arguments:?}: {}",
                stderr(&output)
            );
            assert!(stdout(&output).is_empty());
        }
    }

    async fn the_reason_for_a_database_error_is_printed_once(database) {
        let cli = Cli::on(database).await;
        fs::write(cli.path("damaged.db"), "SQLite format 3\0 and no more").unwrap();
        let message = cli.fails(1, &["-u", "sqlite://damaged.db", "count"]);
        assert_eq!(message.matches("(code: ").count(), 1, "{message}");
    }

    async fn a_path_that_is_not_a_regular_file_is_not_reported_as_missing(database) {
        let cli = Cli::on(database).await;
        fs::create_dir(cli.path("folder")).unwrap();
        symlink("loop", cli.path("loop")).unwrap();
        symlink("nowhere", cli.path("dangling")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(cli.path("pipe"))
            .status()
            .unwrap();
        assert!(made.success());
        for (path, reason) in [
            ("folder", "the path is not a regular file"),
            ("pipe", "the path is not a regular file"),
            ("loop", "Too many levels of symbolic links"),
            ("dangling", "the path is a link to a file that doesn't exist"),
        ] {
            let url = format!("sqlite://{path}");
            for command in [
                &["count"][..],
                &["exec", "true"],
                &["purge", "--older-than", "1d"],
            ] {
                let message = cli.fails(1, &[&["-u", &url], command].concat());
                assert!(message.contains(reason), "{message}");
                assert!(!message.contains("creates a new file"), "{message}");
            }
        }
        let message = cli.fails(1, &["-u", "sqlite://no-such-folder/runs.db", "count"]);
        assert!(message.contains("the folder of the file doesn't exist"), "{message}");
        assert!(!cli.path("nowhere").exists());
    }

    async fn an_error_names_the_file_that_cannot_be_used(database) {
        let cli = Cli::on(database).await;
        let message = cli.fails(1, &["import", "no-such-file"]);
        assert_eq!(
            message,
            "error: no-such-file can't be read: No such file or directory (os error 2)\n"
        );
        let message = cli.fails(1, &["export", "--output", "no/such/folder/file"]);
        assert!(
            message.starts_with("error: no/such/folder/file can't be written: "),
            "{message}"
        );
        let message = cli.fails(1, &["import", "."]);
        assert!(message.starts_with("error: . can't be read: "), "{message}");
    }

    async fn a_foreign_table_is_reported_and_left_alone(database) {
        let db = database.connection().await;
        execute(&db, "CREATE TABLE skill_runs (id text)").await;
        let folder = tempfile::tempdir().unwrap();
        for arguments in [&["list"][..], &["exec", "true"], &["migrate"]] {
            let mut command = runtrail_command(folder.path());
            let output = command
                .env("DATABASE_URL", database.url())
                .args(arguments)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1));
            let message = stderr(&output);
            assert!(
                message.contains("table skill_runs is not Runtrail's"),
                "{message}"
            );
        }
        assert_eq!(count(&db, "skill_runs").await, 0);
    }

    async fn output_that_cannot_be_written_is_an_error(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&finished_at("r", 5)).await.unwrap();
        for arguments in [&["list"][..], &["list", "--json"], &["count"], &["export"]] {
            let full = fs::File::options().write(true).open("/dev/full").unwrap();
            let output = cli.command(arguments).stdout(full).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let message = stderr(&output);
            assert!(
                message.contains("error: the output can't be written: No space left"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_postgres_database_is_migrated_only_on_request() {
    on_database(Backend::Postgres, async |database| {
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let mut command = runtrail_command(folder.path());
            command
                .env("DATABASE_URL", database.url())
                .args(arguments)
                .output()
                .unwrap()
        };
        for arguments in [
            &["list"][..],
            &["exec", "touch", "ran"],
            &["purge", "--older-than", "1d"],
            &["import", "-"],
        ] {
            let output = run(arguments);
            let message = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{message}");
            assert!(
                message.contains("the database has no Runtrail tables"),
                "{message}"
            );
            assert!(message.contains("`runtrail migrate`"), "{message}");
        }
        assert!(!folder.path().join("ran").exists());
        let db = database.connection().await;
        let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
        assert!(fetch::<String>(&db, tables).await.is_empty());

        assert!(run(&["migrate", "up", "-n", "1"]).status.success());
        let message = stderr(&run(&["list"]));
        assert!(
            message.contains("older than this version") && message.contains("`runtrail migrate`"),
            "{message}"
        );
        assert!(run(&["migrate"]).status.success());
        assert!(run(&["exec", "touch", "ran"]).status.success());
        assert!(folder.path().join("ran").exists());
    });
}

#[test]
fn a_schema_can_be_chosen() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        execute(&db, "CREATE SCHEMA audit").await;
        let folder = tempfile::tempdir().unwrap();
        for arguments in [&["migrate"][..], &["exec", "true"], &["count"]] {
            let mut command = runtrail_command(folder.path());
            command
                .env("DATABASE_URL", database.url())
                .args(["--database-schema", "audit"]);
            let output = command.args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
        }
        assert_eq!(count(&db, "audit.skill_runs").await, 1);
    });
}

#[test]
fn no_message_of_the_command_contains_a_password() {
    let folder = tempfile::tempdir().unwrap();
    for url in [
        "postgres://me:secret@127.0.0.1:1/app",
        "postgres://me@127.0.0.1:1/app?password=secret",
        "postgres://me:secret@127.0.0.1:99999999/app",
        "postgres://me:1/secret@db/app",
        "mysql://me:secret@127.0.0.1/app",
        "me:secret@127.0.0.1/app",
    ] {
        for arguments in [
            &["list"][..],
            &["exec", "true"],
            &["migrate"],
            &["list", "--help"],
        ] {
            let mut command = runtrail_command(folder.path());
            let output = command
                .env("DATABASE_URL", url)
                .args(arguments)
                .output()
                .unwrap();
            let printed = printed(&output);
            assert!(!printed.contains("secret"), "{url}: {printed}");
            if arguments.len() == 1 {
                assert!(
                    matches!(output.status.code(), Some(1 | 2)),
                    "{url}: {printed}"
                );
                assert_eq!(
                    stderr(&output)
                        .lines()
                        .filter(|line| line.starts_with("error: "))
                        .count(),
                    1
                );
            }
        }
    }
}

#[test]
fn completions_are_generated_for_every_shell() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = runtrail_command(folder.path())
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(stdout(&output).contains("include-dry-run"), "{shell}");
    }
    // The command has opened no database.
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}
