use std::path::Path;
use std::process::Output;

use runtrail_audit::{BulkStorage, Storage};
use runtrail_migration::SchemaName;
use serde_json::json;

use crate::fixture::*;

fn copy(arguments: &[&str]) -> Output {
    runtrail_command(Path::new("/"))
        .arg("copy")
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = copy(arguments);
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(stderr(&output), "");
    stdout(&output)
}

on_each_pair! {
    async fn a_history_moves_with_three_commands(from, to) {
        let source = from.store().await;
        let (from, to) = (from.url(), to.url());
        let between = ["--from", &from, "--to", &to];
        for id in ["a", "b"] {
            source.start_run(&running(id)).await.unwrap();
            source.append_log(&event(id, 1)).await.unwrap();
        }
        // The copy creates the target.
        assert_eq!(succeeds(&between), "copied 2 runs and 2 events\n");
        source.finish_run("a", &stats()).await.unwrap();
        source.append_log(&event("b", 2)).await.unwrap();
        let report = succeeds(&between);
        assert_eq!(
            report,
            "copied 0 runs and 1 event\nfinished 1 run\nalready present: 1 run and 2 events\n"
        );
        source.start_run(&running("c")).await.unwrap();
        let report = succeeds(&[&between[..], &["--final"]].concat());
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "copied 1 run and 0 events",
                "already present: 2 runs and 3 events",
                "compared 3 runs and 3 events"
            ]
        );
        let digest = lines[3].strip_prefix("source ").unwrap();
        assert_eq!(digest.len(), 64);
        assert_eq!(lines[4..], [format!("target {digest}")]);
        // A repetition changes nothing.
        let report = succeeds(&[&between[..], &["--verify"]].concat());
        assert!(
            report.contains("copied 0 runs and 0 events\n")
                && report.ends_with(&format!("target {digest}\n")),
            "{report}"
        );
        let report = succeeds(&[&between[..], &["--final", "--no-verify"]].concat());
        assert_eq!(
            report,
            "copied 0 runs and 0 events\nalready present: 3 runs and 3 events\n"
        );
    }

    async fn large_values_are_copied_in_bounded_memory(from, to) {
        let source = from.store().await;
        let megabyte = json!("x".repeat((1 << 20) - 2));
        for id in 0..40 {
            let id = format!("r-{id:02}");
            source.start_run(&running(&id)).await.unwrap();
            let events: Vec<_> = (0..7)
                .map(|number| match number {
                    3.. => event(&id, number),
                    _ => with(event(&id, number), |event| event.payload = megabyte.clone()),
                })
                .collect();
            source.append_logs(&events).await.unwrap();
        }
        let (from, to) = (from.url(), to.url());
        let mut command = runtrail_command(Path::new("/"));
        command.args(["copy", "--final", "--from", &from, "--to", &to]);
        let (output, peak) = output_and_peak(command.spawn().unwrap()).await;
        assert!(output.status.success(), "{}", printed(&output));
        assert!(stdout(&output).contains("compared 40 runs and 280 events\n"));
        assert!(peak > 0 && peak < 200 << 10, "{peak} KiB");
    }

    async fn differences_are_listed_by_id_and_the_command_fails(from, to) {
        let (source, target) = (from.store().await, to.store().await);
        for store in [&source, &target] {
            store.start_run(&running("same")).await.unwrap();
        }
        source.append_log(&event("same", 1)).await.unwrap();
        let other = with(event("same", 1), |event| event.payload = json!("other"));
        target.append_log(&other).await.unwrap();
        source.start_run(&running("other")).await.unwrap();
        target.start_run(&finished_at("other", 1)).await.unwrap();
        target.start_run(&running("extra")).await.unwrap();
        let (from, to) = (from.url(), to.url());
        let between = ["--from", &from, "--to", &to];

        let output = copy(&between);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            stderr(&output),
            "run \"other\" has different content in the target\n\
            event 1 of run \"same\" has different content in the target\n\
            error: the target differs from the source: 2 rows with different content\n"
        );
        let output = copy(&[&between[..], &["--final"]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            stderr(&output),
            "run \"extra\" exists only in the target\n\
            run \"other\" has different content in the target\n\
            event 1 of run \"same\" has different content in the target\n\
            runs of skill \"skill\" with status \"ok\": 0 in the source, 1 in the target\n\
            error: the target differs from the source: 2 rows with different content, \
            1 row only in the target\n"
        );
        assert_eq!(
            target.list_logs_by_run("same").await.unwrap()[0].payload,
            json!("other")
        );
        assert_eq!(
            target.get_run("other").await.unwrap(),
            finished_at("other", 1)
        );
    }
}

#[test]
fn a_history_is_copied_between_schemas() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        execute(&db, "CREATE SCHEMA one").await;
        execute(&db, "CREATE SCHEMA two").await;
        let url = database.url();
        let in_schema = async |name: &str| {
            let store = runtrail_store::AuditStore::connect(url.as_str())
                .await
                .unwrap();
            store.in_schema(SchemaName::new(name).unwrap())
        };
        let one = in_schema("one").await;
        one.initialize().await.unwrap();
        one.start_run(&running("r")).await.unwrap();
        let between = [
            "--from",
            &url,
            "--from-schema",
            "one",
            "--to",
            &url,
            "--to-schema",
            "two",
        ];
        assert_eq!(succeeds(&between), "copied 1 run and 0 events\n");
        assert_eq!(
            in_schema("two").await.get_run("r").await.unwrap(),
            running("r")
        );
    });
}

#[test]
fn invalid_arguments_are_usage_errors_and_create_nothing() {
    on_database(Backend::Sqlite, async |database| {
        let file = database.file();
        let url = database.url();
        let other = format!("sqlite://{}", file.with_extension("other").display());
        let missing = format!("sqlite://{}", file.with_extension("missing").display());
        for (code, arguments, part) in [
            (2, vec!["--from", &url], "--to"),
            (
                2,
                vec!["--from", &url, "--to", &url],
                "are the same database",
            ),
            (
                2,
                vec!["--from", &url, "--to", &other, "-u", &url],
                "give --from and --to",
            ),
            (
                2,
                vec!["--from", &url, "--to", &other, "--verify", "--no-verify"],
                "cannot be used with",
            ),
            (
                2,
                vec!["--from", "nonsense", "--to", &other],
                "has to begin with",
            ),
            (1, vec!["--from", &missing, "--to", &other], "can't be used"),
            (
                2,
                vec!["--from", "legacy+postgres://localhost/x", "--to", &other],
                "has to begin with sqlite:",
            ),
        ] {
            let output = copy(&arguments);
            assert_eq!(
                output.status.code(),
                Some(code),
                "{arguments:?}: {}",
                stderr(&output)
            );
            assert!(
                stderr(&output).contains(part),
                "{arguments:?}: {}",
                stderr(&output)
            );
        }
        assert_eq!(
            std::fs::read_dir(file.parent().unwrap()).unwrap().count(),
            0
        );
    });
}

#[test]
fn a_database_is_recognized_under_another_url() {
    on_database(Backend::Sqlite, async |database| {
        database.store().await.close().await.unwrap();
        let file = database.file();
        let folder = file.parent().unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let elsewhere = format!("sqlite:{}/../{name}/runtrail.db", folder.display());
        let output = copy(&["--from", &database.url(), "--to", &elsewhere]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("are the same database"));
    });
}

#[test]
fn a_terminal_shows_the_progress() {
    on_databases([Backend::Sqlite, Backend::Sqlite], async |[from, to]| {
        let source = from.store().await;
        super::fill(&source).await;
        let mut terminal = Terminal::open();
        let mut command = runtrail_command(Path::new("/"));
        command
            .env("TERM", "xterm")
            .args(["copy", "--verify", "--from", &from.url(), "--to", &to.url()])
            .stderr(terminal.stream());
        let mut child = command.spawn().unwrap();
        drop(command);
        // Reads meanwhile: the command would block on a full terminal.
        let mut shown = terminal.shown_until("copying 0/4100 rows");
        shown += &terminal.shown_until("copying 4");
        shown += &terminal.shown_until("verifying 4");
        shown += &terminal.rest();
        assert!(ended(&mut child).success());
        for part in ["/4100 rows", "/s ", " left"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    });
}
