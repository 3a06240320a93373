//! `export` and `import`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use runtrail_audit::{BulkStorage, RunFilter, RunStats, RunStatus, SkillRunLog, Storage, Usage};
use runtrail_store::AuditStore;
use serde_json::{Value, json};

use crate::fixture::*;

/// Writes runs whose values are hard to transfer.
async fn awkward_history(store: &AuditStore) {
    let awkward = "\u{0}\u{7f}\u{9b}\u{1F600}\u{202E}\u{2028}\"\\'\r\n\t€";
    let micros = |micros| DateTime::from_timestamp_micros(micros).unwrap();
    let runs = [
        with(finished_at("before the common era", 1), |run| {
            run.started_at = micros(-62_135_596_800_000_001)
        }),
        with(finished_at("after year 9999", 2), |run| {
            run.started_at = micros(253_402_300_800_000_000)
        }),
        with(finished_at("awkward", 3), |run| {
            run.skill_id = "$1; DROP TABLE skill_runs; --".into();
            run.inputs = object(json!({
                "z": 1,
                "a": [1e16, -0.0, f64::MAX, 5e-324, u64::MAX, i64::MIN, 0.1],
                awkward: awkward,
            }));
            run.output = awkward.into();
            run.error = "x".repeat(1 << 20);
            run.runtime_seconds = 0.1 + 0.2;
            run.tool_calls = i64::MAX as u64;
            run.parent_run_id = None;
            run.owner_id = Some("owner \u{1F600}".into());
            run.labels
                .insert("awk.ward/key".into(), "= \" \u{1F600}".into());
        }),
        finished_at("dry", 4).status(RunStatus::DRY_RUN),
        running("still running"),
        running("same start, larger id"),
    ];
    for run in &runs {
        store.start_run(run).await.unwrap();
    }
    let payloads = [
        json!(null),
        json!(awkward),
        json!({"deep": [[[{"er": [1.5e300, "\u{0}"]}]]]}),
        json!("x".repeat(300_000)),
    ];
    let usage = Usage::new()
        .provider("p \"q\"")
        .model("m\u{1F600}")
        .input_tokens(i64::MAX as u64)
        .cache_read_tokens(1)
        .cache_write_tokens(2)
        .output_tokens(3)
        .thinking_tokens(3)
        .cost_micros(0);
    for (id, events) in [("awkward", 700), ("still running", 3)] {
        let event = |number: u64| {
            with(SkillRunLog::new(id, number * 7, "", Value::Null), |event| {
                event.event_type = if number.is_multiple_of(2) {
                    String::new()
                } else {
                    "tool \"call\"".into()
                };
                event.payload = if number < 4 {
                    payloads[number as usize].clone()
                } else {
                    json!({"number": number})
                };
                event.created_at = Some(micros(1_700_000_000_000_000 + number as i64 * 333));
                if number.is_multiple_of(3) {
                    event.duration = Some(Duration::from_micros(number));
                    event.usage = Some(usage.clone());
                }
            })
        };
        store
            .append_logs(&(0..events).map(event).collect::<Vec<_>>())
            .await
            .unwrap();
    }
}

fn export(cli: &Cli, name: &str) -> String {
    cli.succeeds(&["export", "--include-dry-run", "--output", name]);
    fs::read_to_string(cli.path(name)).unwrap()
}

fn other_backend(backend: Backend) -> Backend {
    match backend {
        Backend::Sqlite => Backend::Postgres,
        Backend::Postgres => Backend::Sqlite,
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

on_each_backend! {
    async fn an_export_that_is_imported_elsewhere_is_exported_to_the_same_bytes(database) {
        let cli = Cli::on(database).await;
        awkward_history(&cli.store).await;
        let exported = export(&cli, "first.jsonl");
        assert_eq!(exported.lines().count(), 6);
        // An export to stdout is the same.
        assert_eq!(cli.succeeds(&["export", "--include-dry-run"]), exported);

        let target_database = TestDatabase::create(other_backend(database.backend())).await;
        let target = Cli::on(&target_database).await;
        let file = cli.path("first.jsonl");
        for _ in 0..2 {
            let output = target.output(&["import", path_text(&file)]);
            assert!(output.status.success(), "{}", stderr(&output));
            assert_eq!(stderr(&output), "imported 6 runs with 703 events\n");
            assert_eq!(export(&target, "second.jsonl"), exported);
        }
        target_database.drop().await;
    }

    async fn an_export_accepts_the_filters_of_a_list_and_reports_what_it_leaves_out(database) {
        let cli = Cli::on(database).await;
        awkward_history(&cli.store).await;
        let output = cli.output(&["export"]);
        assert_eq!(stdout(&output).lines().count(), 5);
        let message = "exported 5 runs with 703 events\nleft out 1 dry run; --include-dry-run \
            exports dry runs too\n";
        assert_eq!(stderr(&output), message);
        let of_skill = cli.json(&["export", "--skill", "skill", "--until", "2026-11-02"]);
        let ids: Vec<_> = of_skill
            .iter()
            .map(|run| run["id"].as_str().unwrap())
            .collect();
        assert_eq!(
            ids,
            [
                "before the common era",
                "same start, larger id",
                "still running"
            ]
        );
    }

    async fn an_exported_run_has_the_fields_of_the_contract_and_its_events(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&finished_at("r", 5)).await.unwrap();
        let event = event("r", 3).created_at(at(1));
        cli.store.append_log(&event).await.unwrap();
        let exported = cli.json(&["export"]);
        let mut expected = serde_json::to_value(finished_at("r", 5)).unwrap();
        expected["events"] = json!([{
            "sequence": 3, "event_type": "message", "payload": {"text": "hello"},
            "created_at": "2026-11-01T08:00:01.000000Z",
        }]);
        assert_eq!(exported, [expected]);
    }

    async fn an_import_finishes_a_run_that_has_finished_since(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&running("r")).await.unwrap();
        export(&cli, "running.jsonl");
        cli.store.finish_run("r", &stats()).await.unwrap();
        let finished = export(&cli, "finished.jsonl");

        let target_database = TestDatabase::create(other_backend(database.backend())).await;
        let target = Cli::on(&target_database).await;
        for name in ["running.jsonl", "finished.jsonl", "running.jsonl"] {
            target.succeeds(&["import", path_text(&cli.path(name))]);
        }
        assert_eq!(export(&target, "again.jsonl"), finished);
        target_database.drop().await;
    }

    async fn a_bad_line_is_reported_by_number_and_the_others_are_imported(database) {
        let cli = Cli::on(database).await;
        let line = |id: &str, change: &dyn Fn(&mut Value)| {
            let mut line = serde_json::to_value(finished_at(id, 5)).unwrap();
            line["events"] = json!([
                {
                    "sequence": 0, "event_type": "a", "payload": 1,
                    "created_at": "2026-11-01T08:00:01Z",
                },
                {
                    "sequence": 1, "event_type": "b", "payload": 2,
                    "created_at": "2026-11-01T08:00:02Z",
                },
            ]);
            change(&mut line);
            line.to_string()
        };
        let good = |id| line(id, &|_| {});
        cli.store
            .start_run(&with(finished_at("other", 5), |run| run.tool_calls = 99))
            .await
            .unwrap();
        cli.store
            .start_run(&finished_at("contradicted", 5))
            .await
            .unwrap();
        cli.store
            .append_log(&with(event("contradicted", 1), |event| {
                event.payload = json!("other")
            }))
            .await
            .unwrap();
        let truncated = good("truncated");
        let lines = [
            good("first"),
            "not JSON".into(),
            String::new(),
            truncated[..truncated.len() - 20].into(),
            "[]".into(),
            line("late", &|run| run["events"][1]["sequence"] = json!(-1)),
            line("unknown", &|run| run["tool_call"] = json!(1)),
            line("unknown", &|run| run["events"][0]["kind"] = json!(1)),
            line("missing", &|run| {
                drop(run.as_object_mut().unwrap().remove("status"))
            }),
            line("", &|_| {}),
            line("twice", &|run| run["events"][1]["sequence"] = json!(0)),
            line("deep", &|run| {
                run["events"][1]["payload"] = (0..70).fold(json!(1), |inner, _| json!([inner]))
            }),
            good("other"),
            good("contradicted"),
            format!("{} trailing", good("trailing")),
            line("no events", &|run| {
                drop(run.as_object_mut().unwrap().remove("events"))
            }),
            "   ".into(),
            line("usage", &|run| {
                run["events"][0]["usage"] = json!({"input_tokens": 1, "cache_read_tokens": 2})
            }),
            line("usage", &|run| run["events"][1]["usage"] = json!({"tokens": 1})),
            line("usage", &|run| run["events"][1]["duration_micros"] = json!(u64::MAX)),
            good("last"),
        ];
        fs::write(cli.path("lines.jsonl"), lines.join("\n")).unwrap();
        let output = cli.output(&["import", "lines.jsonl"]);
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        let lines: Vec<_> = message.lines().collect();
        let expected = [
            ("line 2: ", "expected ident"),
            ("line 4: ", "EOF"),
            ("line 5: ", "expected a run as a JSON object"),
            ("line 6: ", "expected u64"),
            ("line 7: ", "unknown field \"tool_call\" in a run"),
            ("line 8: ", "unknown field `kind`"),
            ("line 9: ", "missing field `status`"),
            ("line 10: ", "id is empty"),
            (
                "line 11: ",
                "the events are not in ascending order of their sequence",
            ),
            ("line 12: ", "payload is nested deeper than 64 levels"),
            (
                "line 13: ",
                "run \"other\" is finished and differs from the given one",
            ),
            (
                "line 14: ",
                "event 1 of run \"contradicted\" is already stored",
            ),
            ("line 15: ", "trailing characters"),
            (
                "line 18: ",
                "cache_read_tokens is 2: cache_read_tokens and cache_write_tokens exceed input_tokens (1)",
            ),
            ("line 19: ", "unknown field `tokens`"),
            ("line 20: ", "duration_micros is"),
            ("imported 3 runs with 4 events", ""),
            ("error: 16 lines could not be imported", ""),
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, (start, part)) in lines.iter().zip(expected) {
            assert!(
                line.starts_with(start) && line.contains(part),
                "{line}: {start} … {part}"
            );
        }
        // Nothing of a refused line is stored.
        let everything = RunFilter::new().include_dry_run();
        let listed = cli
            .store
            .list_runs_filtered(&everything, None.into())
            .await
            .unwrap();
        let mut ids = ids(&listed);
        ids.sort_unstable();
        assert_eq!(ids, ["contradicted", "first", "last", "no events", "other"]);
    }

    async fn a_run_that_is_being_recorded_is_left_alone(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&running("r")).await.unwrap();
        let other = with(finished_at("r", 5), |run| run.skill_id = "other".into());
        let mut line = serde_json::to_value(&other).unwrap();
        line["events"] = json!([{
            "sequence": 0, "event_type": "a", "payload": 1, "created_at": "2026-11-01T08:00:01Z",
        }]);
        fs::write(cli.path("other.jsonl"), line.to_string()).unwrap();
        let output = cli.output(&["import", "other.jsonl"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output)
                .starts_with(
                    "line 1: run \"r\" is running, and its start differs from that in the line\n"
                )
        );
        assert_eq!(cli.run("r").await, running("r"));
        assert!(cli.events("r").await.is_empty());
    }

    async fn a_conflicting_event_does_not_prevent_the_others(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&finished_at("r", 5)).await.unwrap();
        let events: Vec<_> = (0..500).map(|number| event("r", number)).collect();
        cli.store.append_logs(&events).await.unwrap();
        export(&cli, "whole.jsonl");
        let db = database.connection().await;
        execute(&db, "DELETE FROM skill_run_logs WHERE sequence <> 250").await;
        execute(&db, "UPDATE skill_run_logs SET payload = '1'").await;
        let output = cli.output(&["import", "whole.jsonl"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).starts_with("line 1: event 250 of run \"r\" is already stored"),
            "{}",
            stderr(&output)
        );
        assert_eq!(count(&db, "skill_run_logs").await, 500);
    }

    async fn an_oversized_line_is_refused_in_bounded_memory(database) {
        use std::io::Write;
        let cli = Cli::on(database).await;
        let mut command = cli.command(&["import", "-"]);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = child.stdin.take().unwrap();
        line.write_all(b"{\"id\":\"").unwrap();
        let mut peak = 0;
        for _ in 0..130 {
            line.write_all(&vec![b'x'; 1 << 20]).unwrap();
            peak = peak.max(peak_memory(child.id()).unwrap_or(0));
        }
        line.write_all(b"\"}\n").unwrap();
        drop(line);
        let (output, peak_at_end) = output_and_peak(child).await;
        peak = peak.max(peak_at_end);
        assert!(
            stderr(&output).starts_with("line 1: a value is too long"),
            "{}",
            stderr(&output)
        );
        assert!(peak > 0 && peak < 300 << 10, "{peak} KiB");
    }

    async fn an_export_follows_a_link_and_keeps_the_permissions_of_its_target(database) {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let cli = Cli::on(database).await;
        cli.store.start_run(&finished_at("r", 5)).await.unwrap();
        fs::write(cli.path("secret.jsonl"), "old").unwrap();
        fs::set_permissions(cli.path("secret.jsonl"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("secret.jsonl", cli.path("link.jsonl")).unwrap();
        let exported = export(&cli, "link.jsonl");
        assert!(
            fs::symlink_metadata(cli.path("link.jsonl"))
                .unwrap()
                .is_symlink()
        );
        assert_eq!(
            fs::read_to_string(cli.path("secret.jsonl")).unwrap(),
            exported
        );
        assert_eq!(
            fs::metadata(cli.path("secret.jsonl"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
    }

    async fn a_run_with_an_invalid_id_does_not_prevent_the_export_of_others(database) {
        let cli = Cli::on(database).await;
        for id in ["a", "b", "c"] {
            cli.store.start_run(&running(id)).await.unwrap();
        }
        execute(
            &database.connection().await,
            "UPDATE skill_runs SET id = '' WHERE id = 'b'",
        )
        .await;
        let output = cli.output(&["export", "--output", "lines"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("1 damaged row could not be exported"),
            "{}",
            stderr(&output)
        );
        let lines = fs::read_to_string(cli.path("lines")).unwrap();
        assert_eq!(lines.lines().count(), 2);
        assert!(
            lines.contains("\"a\"") && lines.contains("\"c\""),
            "{lines}"
        );
    }

    async fn only_its_owner_can_read_a_new_export(database) {
        use std::os::unix::fs::PermissionsExt;
        let cli = Cli::on(database).await;
        export(&cli, "runs.jsonl");
        assert_eq!(
            fs::metadata(cli.path("runs.jsonl"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
    }

    async fn an_export_does_not_overwrite_a_database(database) {
        let cli = Cli::on(database).await;
        let url = format!("sqlite://{}?mode=rwc", cli.path("runs.db").display());
        cli.succeeds(&["-u", &url, "exec", "--id", "r", "--", "true"]);
        let before = fs::read(cli.path("runs.db")).unwrap();
        assert!(
            cli.fails(1, &["-u", &url, "export", "--output", "runs.db"])
                .contains("it is a SQLite database")
        );
        assert!(fs::read(cli.path("runs.db")).unwrap() == before);
    }

    async fn a_run_with_very_many_events_is_transferred_in_bounded_memory(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&running("r")).await.unwrap();
        let text = "x".repeat(1_000);
        for batch in 0..60_u64 {
            let event = |number| SkillRunLog::new("r", number, "stdout", json!({"text": text}));
            cli.store
                .append_logs(
                    &(batch * 1_000..(batch + 1) * 1_000)
                        .map(event)
                        .collect::<Vec<_>>(),
                )
                .await
                .unwrap();
        }
        cli.store
            .finish_run("r", &RunStats::new(RunStatus::OK))
            .await
            .unwrap();
        let target_database = TestDatabase::create(other_backend(database.backend())).await;
        let target = Cli::on(&target_database).await;
        let file = cli.path("large.jsonl");
        for (cli, arguments) in [
            (&cli, vec!["export", "--output", path_text(&file)]),
            (&target, vec!["import", path_text(&file)]),
        ] {
            let child = cli.command(&arguments).spawn().unwrap();
            let (output, peak) = output_and_peak(child).await;
            assert!(output.status.success(), "{}", stderr(&output));
            assert!(peak > 0 && peak < 60 << 10, "{arguments:?}: {peak} KiB");
        }
        assert!(fs::metadata(&file).unwrap().len() > 60_000_000);
        let db = target_database.connection().await;
        assert_eq!(count(&db, "skill_run_logs").await, 60_000);
        drop(db);
        target_database.drop().await;
    }

    async fn an_export_that_leaves_out_damaged_rows_fails_and_reports_them(database) {
        let cli = Cli::on(database).await;
        for id in ["a", "b", "c"] {
            cli.store.start_run(&finished_at(id, 5)).await.unwrap();
            cli.store.append_log(&event(id, 0)).await.unwrap();
        }
        let db = database.connection().await;
        execute(&db, "UPDATE skill_runs SET inputs = '{' WHERE id = 'b'").await;
        execute(
            &db,
            "UPDATE skill_run_logs SET payload = '{' WHERE run_id = 'c'",
        )
        .await;
        let output = cli.output(&["export", "--output", "export.jsonl"]);
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(
            message.contains("row \"b\"") && message.contains("row \"c/0\""),
            "{message}"
        );
        assert!(
            message.contains(
                "error: 2 damaged rows could not be exported; all other rows were exported"
            ),
            "{message}"
        );
        assert_eq!(
            fs::read_to_string(cli.path("export.jsonl"))
                .unwrap()
                .lines()
                .count(),
            2
        );
    }

    async fn a_failed_export_leaves_the_old_file(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&finished_at("r", 5)).await.unwrap();
        fs::write(cli.path("export.jsonl"), "old").unwrap();
        let db = database.connection().await;
        execute(
            &db,
            "ALTER TABLE skill_run_logs RENAME COLUMN payload TO elsewhere",
        )
        .await;
        cli.fails(1, &["export", "--output", "export.jsonl"]);
        assert_eq!(fs::read_to_string(cli.path("export.jsonl")).unwrap(), "old");
        let entries = fs::read_dir(cli.folder()).unwrap();
        let left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            left.iter()
                .all(|name| !name.to_string_lossy().contains("runtrail-export")),
            "{left:?}"
        );
    }

    async fn an_import_reads_stdin(database) {
        use std::io::Write;
        let cli = Cli::on(database).await;
        cli.store.start_run(&finished_at("r", 5)).await.unwrap();
        let exported = export(&cli, "r.jsonl");
        cli.succeeds(&["purge", "--older-than", "2026-11-02", "--yes"]);
        let mut command = cli.command(&["import", "-"]);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(exported.as_bytes())
            .unwrap();
        assert!(ended(&mut child).success());
        assert_eq!(cli.run("r").await, finished_at("r", 5));
    }
}
