use std::io::{BufRead, BufReader};
use std::process::Stdio;

use chrono::{TimeDelta, Utc};
use runtrail_audit::{BulkStorage, RunStats, RunStatus, Storage};
use serde_json::{Value, json};

use crate::fixture::*;

fn ids_in(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect()
}

/// Runs of several kinds, the newest with the largest number.
async fn some_runs(cli: &Cli) {
    let now = Utc::now();
    for (number, skill, status, parent, hours) in [
        (1, "fetch", RunStatus::OK, None, 50),
        (2, "fetch", RunStatus::ERROR, Some("run-1"), 5),
        (3, "send", RunStatus::OK, Some("run-2"), 3),
        (4, "send", RunStatus::DRY_RUN, None, 1),
    ] {
        let run = with(finished_at(&format!("run-{number}"), 0), |run| {
            run.skill_id = skill.into();
            run.status = status;
            run.started_at = now - TimeDelta::hours(hours);
            run.parent_run_id = parent.map(Into::into);
        });
        cli.store.start_run(&run).await.unwrap();
    }
}

on_each_backend! {
    async fn a_list_shows_the_runs_that_match_its_filters(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        for (arguments, expected) in [
            (vec![], vec!["run-3", "run-2", "run-1"]),
            (
                vec!["--include-dry-run"],
                vec!["run-4", "run-3", "run-2", "run-1"],
            ),
            (vec!["--skill", "fetch"], vec!["run-2", "run-1"]),
            (vec!["--status", "error"], vec!["run-2"]),
            (vec!["--caller", "nobody"], vec![]),
            (
                vec!["--caller", "caller", "--channel", "channel", "--limit", "1"],
                vec!["run-3"],
            ),
            (vec!["--top-level"], vec!["run-1"]),
            (vec!["--since", "4h"], vec!["run-3"]),
            (vec!["--since", "4h ago"], vec!["run-3"]),
            (vec!["--until", "1d"], vec!["run-1"]),
            (
                vec![
                    "--since",
                    "2020-01-01",
                    "--until",
                    "2020-01-02T00:00:00+01:00",
                ],
                vec![],
            ),
            (vec!["--since", "1000000y"], vec!["run-3", "run-2", "run-1"]),
            (vec!["--offset", "1", "--limit", "1"], vec!["run-2"]),
            (vec!["--offset", "2"], vec!["run-1"]),
            (vec!["--limit", "0"], vec![]),
            (
                vec![
                    "--limit",
                    "18446744073709551615",
                    "--offset",
                    "18446744073709551615",
                ],
                vec![],
            ),
        ] {
            let mut all = vec!["list", "--json"];
            all.extend(&arguments);
            assert_eq!(ids_in(&cli.json(&all)), expected, "{arguments:?}");
            // `count` accepts the same filters.
            if !arguments.contains(&"--limit") && !arguments.contains(&"--offset") {
                let mut count = vec!["count"];
                count.extend(&arguments);
                assert_eq!(
                    cli.succeeds(&count).trim(),
                    expected.len().to_string(),
                    "{arguments:?}"
                );
            }
        }
        assert_eq!(cli.json(&["count", "--json"]), [json!({"count": 3})]);
    }

    async fn a_run_is_top_level_once_its_parent_is_purged(database) {
        let cli = Cli::on(database).await;
        for run in [
            with(finished_at("parent", 0), |run| run.parent_run_id = None),
            child("child", "parent"),
            child("grandchild", "child"),
            child("imported", "elsewhere"),
        ] {
            cli.store.start_run(&run).await.unwrap();
        }
        let assert_top = |newest_first: [&str; 2]| {
            assert_eq!(
                ids_in(&cli.json(&["list", "--json", "--top-level"])),
                newest_first
            );
            assert_eq!(cli.succeeds(&["count", "--top-level"]), "2\n");
            let mut exported = cli.json(&["export", "--top-level"]);
            exported.reverse();
            assert_eq!(ids_in(&exported), newest_first);
        };
        assert_top(["parent", "imported"]);
        cli.succeeds(&["purge", "--older-than", "2026-11-02", "--yes"]);
        assert_top(["imported", "child"]);
        let first = cli.output(&["list", "--json", "--top-level", "--limit", "1"]);
        assert_eq!(
            stderr(&first),
            "there are more runs: --offset 1 continues, --limit N lists more at once\n"
        );
        assert_eq!(
            ids_in(&cli.json(&["list", "--json", "--top-level", "--offset", "1"])),
            ["child"]
        );
    }

    async fn a_list_reports_that_there_are_more_runs(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        for arguments in [
            vec!["list", "--limit", "2"],
            vec!["list", "--json", "--limit", "2"],
        ] {
            let output = cli.output(&arguments);
            assert_eq!(
                stderr(&output),
                "there are more runs: --offset 2 continues, --limit N lists more at once\n"
            );
        }
        assert_eq!(stderr(&cli.output(&["list", "--limit", "3"])), "");
    }

    async fn json_has_the_fields_of_the_contract_and_times_to_the_microsecond(database) {
        let cli = Cli::on(database).await;
        let run = with(finished_at("r", 5), |run| run.parent_run_id = None);
        cli.store.start_run(&run).await.unwrap();
        cli.store
            .start_run(&running_at("running", -1))
            .await
            .unwrap();
        let event = event("r", 3).created_at(at(1));
        cli.store.append_log(&event).await.unwrap();
        let record = json!({
            "id": "r", "skill_id": "skill", "caller_id": "caller", "channel_id": "channel",
            "parent_run_id": null, "inputs": {"question": "why?", "depth": 3},
            "started_at": "2026-11-01T08:00:00.000000Z",
            "finished_at": "2026-11-01T08:00:05.000000Z",
            "status": "ok", "output": "because", "error": "a warning",
            "tool_calls": 4, "runtime_seconds": 1.25,
            "total_input_tokens": 100, "total_output_tokens": 200, "total_thinking_tokens": 300,
        });
        let listed = cli.json(&["list", "--json"]);
        assert_eq!(listed[0], record);
        assert_eq!(listed[1]["finished_at"], Value::Null);
        assert_eq!(
            cli.json(&["chain", "--json", "r"]),
            std::slice::from_ref(&record)
        );
        let logged = json!({
            "run_id": "r", "sequence": 3, "event_type": "message", "payload": {"text": "hello"},
            "created_at": "2026-11-01T08:00:01.000000Z",
        });
        assert_eq!(
            cli.json(&["logs", "--json", "r"]),
            std::slice::from_ref(&logged)
        );
        let mut whole = record;
        whole["usage"] = json!([]);
        whole["ancestors"] = json!([]);
        whole["children"] = json!([]);
        whole["last_events"] = json!([logged]);
        assert_eq!(cli.json(&["show", "--json", "r"]), [whole]);
        assert_eq!(
            cli.json(&["last", "--json", "skill", "never"]),
            [
                json!({"skill_id": "skill", "started_at": "2026-11-01T08:00:00.000000Z"}),
                json!({"skill_id": "never", "started_at": null}),
            ]
        );
    }

    async fn show_prints_ancestors_children_and_last_events(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        let events: Vec<_> = (0..15).map(|number| event("run-2", number)).collect();
        cli.store.append_logs(&events).await.unwrap();
        let whole = &cli.json(&["show", "--json", "run-2"])[0];
        assert_eq!(whole["ancestors"], json!(["run-1"]));
        assert_eq!(whole["children"], json!(["run-3"]));
        let sequences: Vec<_> = whole["last_events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["sequence"].as_u64())
            .collect();
        assert_eq!(sequences, (5..15).map(Some).collect::<Vec<_>>());
        let screen = cli.succeeds(&["show", "run-2"]);
        assert!(
            screen.contains("\nAncestors\n")
                && screen.contains("\nChildren\n")
                && screen.contains("\nLast events\n")
        );
    }

    async fn last_leaves_out_failed_runs_by_default(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        let last = |arguments: &[&str]| {
            cli.json(&[&["last", "--json", "fetch"], arguments].concat())[0].clone()
        };
        let started = |id: &str| cli.json(&["show", "--json", id])[0]["started_at"].clone();
        assert_eq!(last(&[])["started_at"], started("run-1"));
        assert_eq!(last(&["--include-failed"])["started_at"], started("run-2"));
    }

    async fn chain_shows_a_run_and_all_its_ancestors(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        assert_eq!(
            ids_in(&cli.json(&["chain", "--json", "run-3"])),
            ["run-3", "run-2", "run-1"]
        );
    }

    async fn events_are_printed_in_order_and_by_type(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&running("r")).await.unwrap();
        let typed = |number: u64| {
            with(event("r", 300 - number), |event| {
                event.event_type = if number.is_multiple_of(2) {
                    "even"
                } else {
                    "odd"
                }
                .into()
            })
        };
        cli.store
            .append_logs(&(0..300).map(typed).collect::<Vec<_>>())
            .await
            .unwrap();
        let sequences = |arguments: &[&str]| -> Vec<u64> {
            let lines = cli.json(&[&["logs", "--json", "r"], arguments].concat());
            lines
                .iter()
                .map(|line| line["sequence"].as_u64().unwrap())
                .collect()
        };
        assert_eq!(sequences(&[]), (1..=300).collect::<Vec<_>>());
        assert_eq!(
            sequences(&["--type", "odd"]),
            (1..300).step_by(2).collect::<Vec<_>>()
        );
        assert!(sequences(&["--type", "neither"]).is_empty());
        assert_eq!(cli.succeeds(&["logs", "r"]).lines().count(), 300);
    }

    async fn following_continues_until_the_run_finishes(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&running("r")).await.unwrap();
        cli.store.append_log(&event("r", 0)).await.unwrap();
        let mut child = cli
            .command(&["logs", "--json", "--follow", "r"])
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = || -> Option<u64> {
            let line: Value = serde_json::from_str(&lines.next()?.unwrap()).unwrap();
            line["sequence"].as_u64()
        };
        assert_eq!(next(), Some(0));
        for number in 1..4 {
            cli.store.append_log(&event("r", number)).await.unwrap();
            assert_eq!(next(), Some(number));
        }
        assert!(child.try_wait().unwrap().is_none());
        cli.store.append_log(&event("r", 4)).await.unwrap();
        cli.store
            .finish_run("r", &RunStats::new(RunStatus::OK))
            .await
            .unwrap();
        assert_eq!((next(), next()), (Some(4), None));
        assert!(ended(&mut child).success());
        // A finished run is not followed.
        assert_eq!(cli.json(&["logs", "--json", "--follow", "r"]).len(), 5);
    }

    async fn a_closed_stdout_ends_the_command_quietly(database) {
        let cli = Cli::on(database).await;
        for number in 0..100 {
            let run = with(finished_at(&format!("run-{number}"), 1), |run| {
                run.output = "long ".repeat(2_000)
            });
            cli.store.start_run(&run).await.unwrap();
        }
        let events: Vec<_> = (0..5_000).map(|number| event("run-1", number)).collect();
        cli.store.append_logs(&events).await.unwrap();
        for arguments in [
            vec!["list"],
            vec!["list", "--json", "--limit", "100"],
            vec!["show", "run-1"],
            vec!["logs", "run-1"],
            vec!["logs", "--json", "run-1"],
            vec!["tree", "run-1"],
            vec!["chain", "run-1"],
            vec!["last", "skill"],
            vec!["count"],
            vec!["export"],
            vec!["migrate", "status"],
            vec!["completions", "bash"],
        ] {
            let mut child = cli
                .command(&arguments)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            drop(child.stdout.take());
            let output = child.wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{arguments:?}: {}",
                stderr(&output)
            );
            let message = stderr(&output);
            assert!(
                !message.contains("error") && !message.contains("panic"),
                "{arguments:?}: {message}"
            );
        }
    }

    async fn damaged_rows_hide_no_others_and_are_reported(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        cli.store.append_log(&event("run-2", 0)).await.unwrap();
        cli.store.append_log(&event("run-2", 1)).await.unwrap();
        let db = database.connection().await;
        execute(&db, "UPDATE skill_runs SET inputs = '{' WHERE id = 'run-2'").await;
        execute(
            &db,
            "UPDATE skill_run_logs SET payload = '{' WHERE sequence = 0",
        )
        .await;
        let list = cli.output(&["list", "--json"]);
        assert!(list.status.success());
        assert_eq!(stdout(&list).lines().count(), 2);
        let warning = "warning: row \"run-2\" of table skill_runs is damaged: inputs doesn't \
            contain the expected JSON: ";
        assert!(stderr(&list).starts_with(warning), "{}", stderr(&list));
        let logs = cli.output(&["logs", "--json", "run-2"]);
        assert!(logs.status.success());
        assert_eq!(stdout(&logs).lines().count(), 1);
        assert!(
            stderr(&logs).contains("row \"run-2/0\" of table skill_run_logs is damaged"),
            "{}",
            stderr(&logs)
        );
        let message = cli.fails(1, &["show", "run-2"]);
        assert!(message.contains("is damaged"), "{message}");
        // A tree doesn't read the damaged column.
        let tree = cli.output(&["tree", "--json", "run-1"]);
        assert_eq!(stdout(&tree).lines().count(), 3);
    }
}

#[test]
fn a_history_is_created_in_the_current_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = runtrail_command(folder.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(run(&["exec", "echo", "hi"]), "hi\n");
    assert!(folder.path().join("runtrail.db").exists());
    assert_eq!(run(&["count"]), "1\n");
    // Another file, without a mode in its URL.
    run(&["--database-url", "sqlite://other.db", "migrate"]);
    assert_eq!(
        run(&["--database-url", "sqlite://other.db", "count"]),
        "0\n"
    );
    assert!(folder.path().join("other.db").exists());
    let status = run(&["migrate", "status"]);
    assert!(
        status.contains("applied") && !status.contains("pending"),
        "{status}"
    );
}

#[test]
fn a_locked_or_read_only_history_can_be_read() {
    on_database(Backend::Sqlite, async |database| {
        let cli = Cli::on(database).await;
        cli.store.start_run(&finished_at("r", 5)).await.unwrap();
        let db = database.connection().await;
        execute(&db, "BEGIN IMMEDIATE").await;
        assert_eq!(cli.succeeds(&["count"]), "1\n");
        execute(&db, "ROLLBACK").await;
        let url = database.url().replace("mode=rwc", "mode=ro");
        assert_eq!(cli.succeeds(&["--database-url", &url, "count"]), "1\n");
    });
}
