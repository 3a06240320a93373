use runtrail_audit::{RunFilter, RunStatus, Storage};
use serde_json::json;

use crate::fixture::*;

on_each_backend! {
    async fn a_program_is_recorded_with_its_output_and_its_outcome(database) {
        let cli = Cli::on(database).await;
        let output = cli.output(&[
            "exec",
            "--id",
            "r",
            "--caller",
            "alice",
            "--channel",
            "cron",
            "--input",
            "depth=3",
            "--input",
            "why=a=b",
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 7",
        ]);
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(
            (stdout(&output).as_str(), stderr(&output).as_str()),
            ("out\n", "err\n")
        );

        let mut run = cli.run("r").await;
        assert_eq!(
            (
                run.skill_id.as_str(),
                run.caller_id.as_str(),
                run.channel_id.as_str()
            ),
            ("sh", "alice", "cron")
        );
        assert_eq!(run.parent_run_id, None);
        let command = json!(["sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert!(
            run.inputs
                .remove("exec_pid")
                .is_some_and(|pid| pid.is_u64())
        );
        assert_eq!(
            run.inputs,
            object(json!({"command": command, "depth": "3", "why": "a=b"}))
        );
        assert_eq!(
            (run.status.as_str(), run.error.as_str()),
            ("error", "exit code 7")
        );
        assert!(run.runtime_seconds > 0.0 && run.finished_at.unwrap() >= run.started_at);

        let events = cli.events("r").await;
        let mut printed: Vec<_> = events[..2]
            .iter()
            .map(|e| (e.event_type.as_str(), e.payload.clone()))
            .collect();
        printed.sort_by_key(|event| event.0);
        assert_eq!(
            printed,
            [
                ("stderr", json!({"text": "err"})),
                ("stdout", json!({"text": "out"}))
            ]
        );
        assert!(
            events
                .iter()
                .all(|event| event.created_at.unwrap() >= run.started_at)
        );
        assert_eq!(events.len(), 3);
        assert_eq!(events[2].event_type, "exit");
        assert_eq!(events[2].payload["code"], json!(7));
        assert_eq!(
            events[2].payload["runtime_seconds"],
            json!(run.runtime_seconds)
        );
    }

    async fn a_program_that_succeeds_is_recorded_as_ok_with_a_new_id(database) {
        let cli = Cli::on(database).await;
        assert_eq!(cli.succeeds(&["exec", "echo", "hi"]), "hi\n");
        assert_eq!(
            cli.succeeds(&[
                "exec",
                "--skill",
                "greeting",
                "--",
                "/bin/echo",
                "--json",
                "--id"
            ]),
            "--json --id\n"
        );
        let runs = cli.json(&["list", "--json"]);
        assert_eq!(runs.len(), 2);
        assert_eq!(runs[0]["skill_id"], "greeting");
        assert_eq!(runs[1]["skill_id"], "echo");
        assert!(
            runs.iter()
                .all(|run| run["status"] == "ok" && run["error"] == "")
        );
        // A UUIDv7 has version 7 and is ordered by time.
        assert!(
            runs.iter()
                .all(|run| run["id"].as_str().unwrap().as_bytes()[14] == b'7')
        );
        assert!(runs[0]["id"].as_str() > runs[1]["id"].as_str());
    }

    async fn a_nested_run_is_a_child_and_its_exit_code_is_passed_on(database) {
        let cli = Cli::on(database).await;
        let inner = r#"runtrail exec -- sh -c "echo hi; exit 3""#;
        let output = cli.output(&["exec", "--", "sh", "-c", inner]);
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(stdout(&output), "hi\n");

        let top = cli.json(&["list", "--json", "--top-level"]);
        assert_eq!(top.len(), 1);
        let top = top[0]["id"].as_str().unwrap();
        let tree = cli.json(&["tree", "--json", top]);
        assert_eq!(tree.len(), 2);
        assert_eq!(
            (tree[0]["depth"].as_u64(), tree[1]["depth"].as_u64()),
            (Some(0), Some(1))
        );
        assert_eq!(tree[1]["parent_run_id"], top);
        assert!(tree.iter().all(|run| run["status"] == "error"));
        for run in &tree {
            assert_eq!(
                cli.printed_by(run["id"].as_str().unwrap(), "stdout").await,
                b"hi\n"
            );
        }
    }

    async fn a_nested_run_uses_the_same_history_in_any_folder(database) {
        let cli = Cli::on(database).await;
        // The program's own DATABASE_URL leads to an unrelated database.
        let mut command = cli.command(&[
            "exec",
            "--database-url",
            &database.url(),
            "--id",
            "outer",
            "--",
        ]);
        command.env("DATABASE_URL", "sqlite://app.db").args([
            "sh",
            "-c",
            "cd / && runtrail exec --id inner -- runtrail exec --id innermost true",
        ]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(
            cli.run("inner").await.parent_run_id.as_deref(),
            Some("outer")
        );
        assert_eq!(
            cli.run("innermost").await.parent_run_id.as_deref(),
            Some("inner")
        );

        // A relative path must still lead to the same file in another folder.
        let mut command = runtrail_command(cli.folder());
        let output = command
            .args([
                "exec",
                "--",
                "sh",
                "-c",
                "mkdir there; cd there; runtrail exec true; runtrail count",
            ])
            .output()
            .unwrap();
        assert_eq!(stdout(&output), "2\n", "{}", stderr(&output));
    }

    async fn a_nested_run_can_choose_another_history(database) {
        let cli = Cli::on(database).await;
        let script = "export DATABASE_URL=sqlite://other.db; runtrail exec --id inner true";
        for outer in ["named by the environment", "named by an option"] {
            let mut command = cli.command(&["exec", "--id", outer]);
            if outer == "named by an option" {
                command
                    .env_remove("DATABASE_URL")
                    .args(["--database-url", &database.url()]);
            }
            let output = command.args(["--", "sh", "-c", script]).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            let purged = cli.succeeds(&[
                "--database-url",
                "sqlite://other.db",
                "purge",
                "--older-than",
                "0s",
                "--yes",
            ]);
            assert!(purged.starts_with("deleted 1 run that"), "{purged}");
        }
        assert_eq!(cli.succeeds(&["count"]), "2\n");
    }

    async fn a_nested_run_without_the_url_uses_no_other_history(database) {
        let cli = Cli::on(database).await;
        let script = "unset DATABASE_URL; mkdir -p sub; cd sub; runtrail exec --id inner true";
        let output = cli.output(&["exec", "--id", "outer", "--", "sh", "-c", script]);
        match database.backend() {
            Backend::Sqlite => {
                assert!(output.status.success(), "{}", stderr(&output));
                assert_eq!(
                    cli.run("inner").await.parent_run_id.as_deref(),
                    Some("outer")
                );
            }
            // The URL was passed on only in this variable, since it may contain a password.
            Backend::Postgres => {
                assert_eq!(output.status.code(), Some(2));
                assert!(
                    stderr(&output).contains("DATABASE_URL was removed"),
                    "{}",
                    stderr(&output)
                );
                let script = "unset DATABASE_URL; runtrail exec --keep-going -- echo ran";
                let output = cli.output(&["exec", "--", "sh", "-c", script]);
                assert!(output.status.success(), "{}", stderr(&output));
                assert_eq!(stdout(&output), "ran\n");
                assert!(
                    stderr(&output).contains("this run is not recorded"),
                    "{}",
                    stderr(&output)
                );
            }
        }
        assert!(!cli.path("sub/runtrail.db").exists());
    }

    async fn a_mistyped_option_is_not_run_as_a_program(database) {
        let cli = Cli::on(database).await;
        let output = cli.output(&["exec", "--timout", "5s", "--", "true"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("--timeout"), "{}", stderr(&output));
        assert!(
            cli.fails(2, &["exec", "--id", "@mine", "true"])
                .contains("@last")
        );
        assert_eq!(cli.succeeds(&["count"]), "0\n");
        // Options after the program's name belong to the program.
        assert_eq!(
            cli.succeeds(&["exec", "echo", "--timout", "--", "-n"]),
            "--timout -- -n\n"
        );
    }

    async fn the_environment_of_a_program_contains_no_password(database) {
        let cli = Cli::on(database).await;
        let printed = cli.succeeds(&["exec", "env"]);
        let holding: Vec<_> = printed
            .lines()
            .filter(|line| line.contains(&database.url()))
            .collect();
        let may_hold = |line: &str| {
            let is_own =
                database.backend() == Backend::Sqlite && line.starts_with("RUNTRAIL_DATABASE_URL=");
            line.starts_with("DATABASE_URL=") || is_own
        };
        assert!(holding.iter().all(|line| may_hold(line)), "{holding:?}");

        if database.backend() == Backend::Postgres {
            let mut command = runtrail_command(cli.folder());
            let script = "env; stat -c mode=%a \"$RUNTRAIL_DATABASE_URL_FILE\"; runtrail exec \
                --id inner true";
            command.args([
                "exec",
                "--id",
                "outer",
                "-u",
                &database.url(),
                "--",
                "sh",
                "-c",
                script,
            ]);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            let password = url::Url::parse(&database.url())
                .unwrap()
                .password()
                .unwrap()
                .to_owned();
            assert!(!stdout(&output).contains(&password));
            assert!(
                stdout(&output).contains("mode=600\n"),
                "{}",
                stdout(&output)
            );
            assert_eq!(
                cli.run("inner").await.parent_run_id.as_deref(),
                Some("outer")
            );

            // The file is deleted with the run, and no other database is used instead.
            let file = stdout(&output).lines().find_map(|line| {
                line.strip_prefix("RUNTRAIL_DATABASE_URL_FILE=")
                    .map(str::to_owned)
            });
            let mut command = runtrail_command(cli.folder());
            command
                .env("RUNTRAIL_DATABASE_URL_FILE", file.unwrap())
                .env("RUNTRAIL_DATABASE_URL_INSTEAD_OF", "");
            let output = command.args(["exec", "touch", "ran"]).output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            assert!(
                stderr(&output).contains("give --database-url"),
                "{}",
                stderr(&output)
            );
            assert!(!cli.path("ran").exists());
        }
    }

    async fn a_nested_run_in_another_database_has_no_parent(database) {
        let cli = Cli::on(database).await;
        let script = "runtrail exec -u sqlite://other.db --id inner -- true";
        cli.succeeds(&["exec", "--id", "outer", "--", "sh", "-c", script]);
        let top = cli.json(&["-u", "sqlite://other.db", "list", "--json", "--top-level"]);
        assert_eq!(top.len(), 1);
        assert_eq!(top[0]["parent_run_id"], serde_json::Value::Null);
    }

    async fn a_schema_is_not_inherited_without_its_database(database) {
        let cli = Cli::on(database).await;
        if database.backend() == Backend::Postgres {
            execute(&database.connection().await, "CREATE SCHEMA audit").await;
            cli.succeeds(&["-s", "audit", "migrate"]);
        }
        let inner = [
            "runtrail",
            "exec",
            "-u",
            &database.url(),
            "--id",
            "inner",
            "--",
            "true",
        ];
        let arguments = [&["exec", "-s", "audit", "--id", "outer", "--"], &inner[..]].concat();
        cli.succeeds(&arguments);
        assert!(!cli.run("inner").await.is_running());
    }

    /// A process that outlives its run still has the environment variables of the run.
    async fn a_process_that_outlives_its_run_starts_no_nested_runs(database) {
        let cli = Cli::on(database).await;
        let late = "while ! test -e go; do sleep 0.05; done; \
            runtrail exec --id late -- sh -c 'echo ${RUNTRAIL_KILL_AFTER_MS-none}'";
        let script = format!(
            "setsid sh -c \"{}\" >/dev/null 2>&1 & exit 0",
            late.replace('$', "\\$")
        );
        let mut command = cli.command(&[
            "exec",
            "--id",
            "early",
            "--timeout",
            "1h",
            "--",
            "sh",
            "-c",
            &script,
        ]);
        assert!(command.output().unwrap().status.success());
        std::fs::write(cli.path("go"), "").unwrap();
        let give_up = std::time::Instant::now() + PATIENCE;
        while cli.store.get_run("late").await.is_err() {
            assert!(
                std::time::Instant::now() < give_up,
                "the run \"late\" is not recorded"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        cli.wait_until_finished("late").await;
        assert_eq!(cli.run("late").await.parent_run_id, None);
        assert_eq!(cli.printed_by("late", "stdout").await, b"none\n");

        // A parent id that is set by hand is used.
        let mut command = cli.command(&["exec", "--id", "by hand", "true"]);
        assert!(
            command
                .env("RUNTRAIL_RUN_ID", "early")
                .output()
                .unwrap()
                .status
                .success()
        );
        assert_eq!(
            cli.run("by hand").await.parent_run_id.as_deref(),
            Some("early")
        );
        for recorder in [
            "-1:0:early",
            "-1:5:early",
            "0:0:early",
            "99999999999:0:early",
            "::",
        ] {
            let mut command = cli.command(&["exec", &format!("--id={recorder}"), "true"]);
            command
                .env("RUNTRAIL_RUN_ID", "early")
                .env("RUNTRAIL_RECORDER", recorder);
            assert!(command.output().unwrap().status.success(), "{recorder}");
        }
    }

    async fn a_dry_run_is_hidden_however_it_ends(database) {
        let cli = Cli::on(database).await;
        let output = cli.output(&[
            "exec",
            "--id",
            "dry",
            "--dry-run-status",
            "--",
            "sh",
            "-c",
            "exit 5",
        ]);
        assert_eq!(output.status.code(), Some(5));
        let run = cli.run("dry").await;
        assert_eq!(
            (run.status, run.error.as_str()),
            (RunStatus::DRY_RUN, "exit code 5")
        );
        assert!(!cli.run("dry").await.is_running());
        assert!(cli.json(&["list", "--json"]).is_empty());
        assert_eq!(cli.json(&["list", "--json", "--include-dry-run"]).len(), 1);
        assert_eq!(
            cli.json(&["list", "--json", "--status", "dry_run"]).len(),
            1
        );
    }

    async fn a_program_that_cannot_be_run_is_recorded_as_failed(database) {
        let cli = Cli::on(database).await;
        let missing = cli.output(&["exec", "--id", "missing", "--", "no-such-program"]);
        assert_eq!(missing.status.code(), Some(127));
        assert_eq!(
            stderr(&missing),
            "runtrail: no-such-program: can't be run: No such file or directory (os error 2)\n"
        );
        let refused = cli.output(&["exec", "--id", "refused", "--", "/etc/passwd"]);
        assert_eq!(refused.status.code(), Some(126));
        for id in ["missing", "refused"] {
            let run = cli.run(id).await;
            assert!(run.error.starts_with("can't be run: "), "{}", run.error);
            assert_eq!((run.status.as_str(), run.is_running()), ("error", false));
            assert!(cli.events(id).await[0].payload["error"].is_string());
        }
    }

    async fn nothing_is_run_if_the_id_is_taken(database) {
        let cli = Cli::on(database).await;
        cli.store.start_run(&running("running")).await.unwrap();
        cli.store
            .start_run(&finished_at("finished", 5))
            .await
            .unwrap();
        for id in ["running", "finished"] {
            let message = cli.fails(
                1,
                &["exec", "--keep-going", "--id", id, "--", "touch", "ran"],
            );
            assert!(
                message.contains("the program was not started")
                    && message.contains("give another --id"),
                "{message}"
            );
        }
        assert!(!cli.path("ran").exists());
        assert_eq!(cli.run("running").await, running("running"));
    }

    async fn of_several_commands_with_the_same_id_only_one_runs(database) {
        let cli = Cli::on(database).await;
        for round in 0..5 {
            let id = format!("r{round}");
            let start =
                |_| cli.spawn_exec(&["--id", &id, "--", "sh", "-c", "echo $$ >>ran; sleep 0.3"]);
            let mut children: Vec<_> = (0..6).map(start).collect();
            let codes: Vec<_> = children
                .iter_mut()
                .map(|child| ended(child).code().unwrap())
                .collect();
            let ran = std::fs::read_to_string(cli.path("ran")).unwrap();
            assert_eq!(ran.lines().count(), round + 1, "{codes:?}");
            assert_eq!(
                codes.iter().filter(|&&code| code == 0).count(),
                1,
                "{codes:?}"
            );
        }
    }

    async fn nothing_is_run_if_inputs_contradict_each_other(database) {
        let cli = Cli::on(database).await;
        for input in ["command=x", "exec_pid=1", "twice=2"] {
            let message = cli.fails(
                2,
                &[
                    "exec", "--input", "twice=1", "--input", input, "--", "touch", "ran",
                ],
            );
            assert!(message.contains("given twice"), "{message}");
        }
        let long = "x".repeat(256);
        cli.fails(
            2,
            &[
                "exec",
                "--keep-going",
                "--skill",
                &long,
                "--",
                "touch",
                "ran",
            ],
        );
        assert!(!cli.path("ran").exists());
        assert_eq!(
            cli.store
                .count_runs_filtered(&RunFilter::new())
                .await
                .unwrap(),
            0
        );
    }

    async fn a_program_reads_its_stdin(database) {
        use std::io::Write;
        let cli = Cli::on(database).await;
        let mut command = cli.command(&["exec", "--id", "r", "--", "sort"]);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"b\na\n").unwrap();
        assert_eq!(stdout(&child.wait_with_output().unwrap()), "a\nb\n");
        assert_eq!(cli.printed_by("r", "stdout").await, b"a\nb\n");
    }
}
