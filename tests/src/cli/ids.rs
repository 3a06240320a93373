//! Finding runs by parts of their ids, and lists with damaged rows.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use runtrail_audit::{BulkStorage, RunStatus, SkillRunLog, Storage};
use serde_json::json;

use crate::fixture::*;

/// Every command whose argument is the id of a run.
const COMMANDS: &[&str] = &["show", "tree", "logs", "chain"];

const TOP: &str = "01a20cf6-c87f-7512-a41b-d8e0257f01e1";
const FIRST: &str = "01a20cf7-0101-7abc-8f00-000000000001";
const SECOND: &str = "01a20cf7-0101-7abc-8f00-000000000002";

async fn some_runs(cli: &Cli) {
    let status = |id, seconds, status| {
        with(finished_at(id, 100), |run| {
            run.status = status;
            run.started_at = at(seconds);
        })
    };
    for run in [
        status(TOP, 1, RunStatus::ERROR),
        status(FIRST, 2, RunStatus::TIMEOUT),
        with(status(SECOND, 3, RunStatus::OK), |run| {
            run.skill_id = "other".into()
        }),
        status("r", 0, RunStatus::OK),
        status("run_%", 0, RunStatus::OK),
        status("dry", 9, RunStatus::DRY_RUN),
    ] {
        cli.store.start_run(&run).await.unwrap();
        let event = SkillRunLog::new(&run.id, 0, "said", json!(run.id));
        cli.store.append_log(&event).await.unwrap();
    }
}

on_each_backend! {
    async fn a_prefix_of_an_id_is_enough(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        for (given, id) in [
            (TOP, TOP),
            ("01a20cf6", TOP),
            ("01a20cf6-", TOP),
            ("01a20cf7-0101-7abc-8f00-000000000002", SECOND),
            // An exact id takes precedence over longer ones.
            ("r", "r"),
            ("ru", "run_%"),
            ("run_", "run_%"),
            ("d", "dry"),
            // The form that a table shows.
            ("01a20cf7…00-000000000001", FIRST),
            ("01a20cf7...02", SECOND),
        ] {
            for command in COMMANDS {
                let printed = cli.succeeds(&[command, "--json", given]);
                assert!(
                    printed.contains(&format!("\"{id}\"")),
                    "{command} {given}: {printed}"
                );
            }
        }
    }

    async fn an_ambiguous_id_is_refused_with_candidates(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        for command in COMMANDS {
            let message = cli.fails(1, &[command, "01a20cf7"]);
            assert!(
                message.contains(FIRST) && message.contains(SECOND),
                "{message}"
            );
            assert!(!message.contains(TOP), "{message}");
        }
    }

    async fn an_unknown_id_is_reported_with_similar_ones(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        let upper = TOP.to_uppercase();
        for (given, similar) in [
            ("01a20cf6-c87e", TOP),
            (upper.as_str(), TOP),
            ("01a20cf7-0101-7abc-8f00-000000000003", FIRST),
        ] {
            for command in COMMANDS {
                let message = cli.fails(4, &[command, given]);
                assert!(message.contains("there is no run with id"), "{message}");
                assert!(message.contains(similar), "{given}: {message}");
            }
        }
        // An id with nothing in common with any other gets no suggestion.
        assert!(!cli.fails(4, &["show", "zzzzzz"]).contains("01a20"));
        // A percent sign matches only itself.
        cli.fails(4, &["show", "01%1"]);
        cli.fails(4, &["show", "01...%"]);
    }

    async fn the_last_run_needs_no_id(database) {
        let cli = Cli::on(database).await;
        for name in ["@last", "@last-failed", "@last:skill"] {
            let message = cli.fails(4, &["show", name]);
            assert_eq!(message, format!("error: no recorded run matches {name}\n"));
        }
        some_runs(&cli).await;
        for (given, id) in [
            ("@last", SECOND),
            ("@last:skill", FIRST),
            ("@last:other", SECOND),
            ("@last-failed", FIRST),
            ("@last-failed:skill", FIRST),
        ] {
            for command in COMMANDS {
                let printed = cli.succeeds(&[command, "--json", given]);
                assert!(
                    printed.contains(&format!("\"{id}\"")),
                    "{command} {given}: {printed}"
                );
            }
        }
        cli.fails(4, &["show", "@last:no such"]);
        cli.fails(4, &["show", "@last-failed:other"]);
        assert!(cli.fails(2, &["show", "@first"]).contains("@last-failed"));
        // A damaged run is skipped.
        let db = database.connection().await;
        execute(
            &db,
            &format!("UPDATE skill_runs SET status = '' WHERE id = '{SECOND}'"),
        )
        .await;
        execute(
            &db,
            &format!("UPDATE skill_runs SET tool_calls = -1 WHERE id = '{SECOND}'"),
        )
        .await;
        assert!(cli.succeeds(&["show", "@last"]).contains(FIRST));
    }

    async fn a_narrow_table_shows_ids_that_the_command_accepts(database) {
        let cli = Cli::on(database).await;
        some_runs(&cli).await;
        let narrow = |columns: &str, arguments: &[&str]| {
            let output = cli
                .command(arguments)
                .env("COLUMNS", columns)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            stdout(&output)
        };
        for columns in ["50", "60", "72", "80"] {
            let shown = narrow(columns, &["list"]);
            for line in shown.lines().skip(1) {
                let id = line.split_whitespace().next().unwrap();
                cli.succeeds(&["show", id]);
            }
            // No more characters than necessary, but never fewer than eight.
            assert!(shown.contains("01a20cf6 "), "{shown}");
        }
        // Ids of runs outside the filter count as well.
        let shown = narrow("60", &["list", "--skill", "other"]);
        assert!(!shown.contains("01a20cf7 "), "{shown}");
    }

    async fn damaged_rows_do_not_count_towards_the_limit(database) {
        let cli = Cli::on(database).await;
        for number in 1..=6 {
            let run = running_at(&format!("run-{number}"), -number);
            cli.store.start_run(&run).await.unwrap();
        }
        let db = database.connection().await;
        execute(
            &db,
            "UPDATE skill_runs SET inputs = '{' WHERE id IN ('run-2', 'run-4')",
        )
        .await;
        let mut seen = Vec::new();
        let mut offset = 0_u64;
        loop {
            let output = cli.output(&[
                "list",
                "--json",
                "--limit",
                "2",
                "--offset",
                &offset.to_string(),
            ]);
            let lines = stdout(&output);
            for line in lines.lines() {
                let run: serde_json::Value = serde_json::from_str(line).unwrap();
                seen.push(run["id"].as_str().unwrap().to_owned());
            }
            let message = stderr(&output);
            let Some((_, rest)) = message.split_once("there are more runs: --offset ") else {
                break;
            };
            assert_eq!(lines.lines().count(), 2, "{lines}");
            offset = rest.split_whitespace().next().unwrap().parse().unwrap();
        }
        assert_eq!(seen, ["run-1", "run-3", "run-5", "run-6"]);
    }

    async fn following_warns_once_about_a_damaged_last_event(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&running("r")).await.unwrap();
        cli.store
            .append_logs(&[event("r", 0), event("r", 1)])
            .await
            .unwrap();
        let db = database.connection().await;
        execute(
            &db,
            "UPDATE skill_run_logs SET payload = '{' WHERE sequence = 1",
        )
        .await;
        let mut follower = cli
            .command(&["logs", "--follow", "--json", "r"])
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        // Long enough for several polls: there is no event to wait for.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        cli.store.append_log(&event("r", 2)).await.unwrap();
        lines.next().unwrap().unwrap();
        cli.store.finish_run("r", &stats()).await.unwrap();
        let output = follower.wait_with_output().unwrap();
        assert_eq!(
            stderr(&output).matches("is damaged").count(),
            1,
            "{}",
            stderr(&output)
        );
    }

    async fn a_run_with_very_many_relatives_is_shown_in_bounded_memory(database) {
        let cli = Cli::on(database).await;
        let large = "x".repeat(1 << 19);
        cli.store.start_run(&running("top")).await.unwrap();
        for number in 0..60 {
            let run = with(finished_at(&format!("child-{number:02}"), 5), |run| {
                run.parent_run_id = Some("top".into());
                run.output = large.clone();
                run.error = large.clone();
            });
            cli.store.start_run(&run).await.unwrap();
        }
        let mut parent = "top".to_owned();
        for number in 0..60 {
            let run = with(finished_at(&format!("link-{number:02}"), 5), |run| {
                run.parent_run_id = Some(parent);
                run.output = large.clone();
                run.error = large.clone();
            });
            cli.store.start_run(&run).await.unwrap();
            parent = run.id;
        }
        // The texts of these two runs are short: the test doesn't read the output before the
        // command ends, so a long output would block the command.
        cli.store
            .start_run(&running("bottom").parent(parent))
            .await
            .unwrap();
        for id in ["top", "bottom"] {
            let child = cli.command(&["show", id]).spawn().unwrap();
            let (output, peak) = output_and_peak(child).await;
            let shown = stdout(&output);
            assert!(shown.contains("and 51 more"), "{shown}");
            assert!(peak < 48 << 10, "{peak} KiB");
        }
    }
}
