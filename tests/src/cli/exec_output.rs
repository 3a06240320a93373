use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtrail_audit::{BulkStorage, ListOrder, LogFilter};

use serde_json::json;

use crate::fixture::*;

/// Runs a program, discards its output, and returns its size in bytes and the peak memory of
/// `runtrail` in KiB.
fn count_output(cli: &Cli, arguments: &[&str]) -> (u64, u64) {
    let mut child = cli.spawn_exec(arguments);
    let mut stdout = child.stdout.take().unwrap();
    let (mut bytes, mut peak) = (0, 0);
    let mut chunk = vec![0; 1 << 20];
    let mut measured: Option<Instant> = None;
    loop {
        let read = stdout.read(&mut chunk).unwrap();
        if read == 0 {
            break;
        }
        bytes += read as u64;
        // A program that prints short lines causes a read for each of them.
        if measured.is_none_or(|at| at.elapsed() > Duration::from_millis(5)) {
            peak = peak.max(peak_memory(child.id()).unwrap_or(0));
            measured = Some(Instant::now());
        }
    }
    assert!(child.wait().unwrap().success());
    (bytes, peak)
}

/// Returns the text after the last carriage return of each line, as a terminal shows it.
fn as_shown(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split(|&byte| byte == b'\n').map(|line| {
        let end = line
            .iter()
            .rposition(|&byte| byte != b'\r')
            .map_or(0, |last| last + 1);
        let line = &line[..end];
        let begin = line
            .iter()
            .rposition(|&byte| byte == b'\r')
            .map_or(0, |last| last + 1);
        &line[begin..]
    });
    lines.collect::<Vec<_>>().join(&b'\n')
}

on_each_backend! {
    async fn every_byte_is_passed_on_and_recorded(database) {
        let cli = Cli::on(database).await;
        let mut bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        bytes.extend("grüße\r\n\n\n\u{1b}[31mred\u{1b}[0m\n\0\n no newline at the end: ü".bytes());
        fs::write(cli.path("bytes"), &bytes).unwrap();
        let output = cli.output(&[
            "exec",
            "--id",
            "r",
            "--",
            "sh",
            "-c",
            "cat bytes; cat bytes >&2",
        ]);
        assert!(output.status.success());
        assert!(output.stdout == bytes && output.stderr == bytes);
        for stream in ["stdout", "stderr"] {
            assert!(
                cli.printed_by("r", stream).await == as_shown(&bytes),
                "{stream}"
            );
        }
    }

    async fn merged_streams_keep_their_order(database) {
        let cli = Cli::on(database).await;
        let script = "for i in $(seq 300); do echo o$i; echo e$i >&2; done; exit 4";
        let output = cli.output(&["exec", "--id", "r", "--merge", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(4));
        let expected: String = (1..=300).map(|i| format!("o{i}\ne{i}\n")).collect();
        assert_eq!(
            (stdout(&output), stderr(&output)),
            (expected.clone(), String::new())
        );
        assert_eq!(cli.printed_by("r", "output").await, expected.as_bytes());
    }

    async fn only_the_last_state_of_a_progress_bar_is_recorded(database) {
        let cli = Cli::on(database).await;
        let script = r"printf '10%%\r50%%\r100%%\ndos\r\nend\r\r\n\rlast\r'";
        let output = cli.output(&["exec", "--id", "r", "--", "sh", "-c", script]);
        assert_eq!(stdout(&output), "10%\r50%\r100%\ndos\r\nend\r\r\n\rlast\r");
        let events = cli.events("r").await;
        let payloads: Vec<_> = events.iter().map(|event| event.payload.clone()).collect();
        let lines = [
            json!({"text": "100%"}),
            json!({"text": "dos"}),
            json!({"text": "end"}),
        ];
        assert_eq!(payloads[..3], lines);
        assert_eq!(payloads[3], json!({"text": "last", "newline": false}));
        assert_eq!(payloads.len(), 5);
    }

    async fn an_unfinished_line_is_recorded_after_a_pause(database) {
        let cli = Cli::on(database).await;
        let wait = |file: &str| format!("while ! test -e {file}; do sleep 0.05; done");
        // The pause splits the bytes of the euro sign.
        let script = format!(
            r"printf 'Name? \342\202'; {}; printf '\254'; {}; printf '\rbob\nnext\n'",
            wait("one"),
            wait("two"),
        );
        let mut child = cli.spawn_exec(&["--id", "r", "--", "sh", "-c", &script]);
        cli.wait_for_events("r", 1).await;
        fs::write(cli.path("one"), "").unwrap();
        cli.wait_for_events("r", 2).await;
        fs::write(cli.path("two"), "").unwrap();
        assert!(ended(&mut child).success());
        let events = cli.events("r").await;
        let payloads: Vec<_> = events[..4]
            .iter()
            .map(|event| event.payload.clone())
            .collect();
        let expected = [
            json!({"text": "Name? ", "newline": false}),
            json!({"text": "€", "newline": false}),
            // The carriage return says that this text replaces the parts recorded so far.
            json!({"text": "\rbob"}),
            json!({"text": "next"}),
        ];
        assert_eq!(payloads, expected);
    }

    async fn a_very_long_line_is_split_between_characters(database) {
        let cli = Cli::on(database).await;
        // A character has three bytes, so a piece whose size is a power of two would split one.
        let text = "€".repeat(1_000_000);
        fs::write(cli.path("text"), &text).unwrap();
        let output = cli.output(&["exec", "--id", "r", "--", "cat", "text"]);
        assert!(output.stdout == text.as_bytes());
        assert!(cli.printed_by("r", "stdout").await == text.as_bytes());
        let events = cli.events("r").await;
        let (exit, pieces) = events.split_last().unwrap();
        assert_eq!(exit.event_type, "exit");
        assert!(pieces.len() > 50);
        assert!(
            pieces.iter().all(|piece| piece.payload["text"].is_string()),
            "cut within a character"
        );
    }

    async fn output_is_passed_on_and_recorded_while_the_program_runs(database) {
        let cli = Cli::on(database).await;
        let mut child = cli.spawn_exec(&[
            "--id",
            "r",
            "--",
            "sh",
            "-c",
            "echo first; read stop; echo second",
        ]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Stdin is empty, so `read` doesn't block.
        assert_eq!(lines.next().unwrap().unwrap(), "first");
        assert_eq!(lines.next().unwrap().unwrap(), "second");
        assert!(ended(&mut child).success());

        let mut child = cli.spawn_exec(&[
            "--id",
            "live",
            "--",
            "sh",
            "-c",
            "echo first; while ! test -e stop; do sleep 0.05; done",
        ]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "first");
        cli.wait_for_events("live", 1).await;
        assert!(cli.run("live").await.is_running());
        fs::write(cli.path("stop"), "").unwrap();
        assert!(ended(&mut child).success());
        assert!(!cli.run("live").await.is_running());
    }

    async fn a_million_lines_are_recorded_one_by_one(database) {
        let cli = Cli::on(database).await;
        let (bytes, peak) = count_output(&cli, &["--id", "r", "--", "seq", "1000000"]);
        assert_eq!(bytes, 6_888_896);
        assert!(peak > 0 && peak < 200 << 10, "{peak} KiB");
        let db = database.connection().await;
        assert_eq!(count(&db, "skill_run_logs").await, 1_000_001);
        let sum = "SELECT SUM(CAST(SUBSTR(payload, 10, LENGTH(payload) - 11) AS bigint)) \
            FROM skill_run_logs \
            WHERE event_type = 'stdout' AND payload LIKE '{\"text\":\"%\"}'";
        let sum =
            sum.replacen("SUM(", "CAST(SUM(", 1)
                .replacen("bigint))", "bigint)) AS bigint)", 1);
        assert_eq!(fetch::<i64>(&db, &sum).await, [500_000_500_000]);
        // The last line is the last event.
        let mut newest = cli.store.stream_logs(
            "r",
            &LogFilter::new().event_type("stdout"),
            ListOrder::NewestFirst,
        );
        let last = futures_util::TryStreamExt::try_next(&mut newest)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(last.payload["text"], "1000000");
    }

    async fn long_output_is_recorded_in_bounded_memory(database) {
        let cli = Cli::on(database).await;
        for (id, device, bytes) in [
            ("noise", "/dev/urandom", 60_000_000),
            ("zeros", "/dev/zero", 20_000_000),
        ] {
            let size = bytes.to_string();
            let (read, peak) = count_output(&cli, &["--id", id, "--", "head", "-c", &size, device]);
            assert_eq!(read, bytes);
            assert!(peak > 0 && peak < 200 << 10, "{id}: {peak} KiB");
        }
        assert!(cli.printed_by("zeros", "stdout").await == vec![0; 20_000_000]);
    }

    async fn a_program_gets_sigpipe_when_its_reader_exits(database) {
        let cli = Cli::on(database).await;
        let mut child = cli.spawn_exec(&["--id", "r", "--", "yes"]);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        // 128 + 13, a shell's exit code for SIGPIPE.
        assert_eq!(ended(&mut child).code(), Some(141));
        assert_eq!(cli.run("r").await.error, "killed by SIGPIPE (signal 13)");
    }

    async fn a_process_left_behind_does_not_keep_the_run_open(database) {
        let cli = Cli::on(database).await;
        for (id, left_behind) in [
            ("silent", "sleep 0.1; echo soon; exec sleep 600"),
            (
                "chatty",
                "sleep 0.1; echo soon; while :; do echo more; sleep 0.1; done",
            ),
            ("noisy", "sleep 0.1; echo soon; exec yes"),
        ] {
            let started = Instant::now();
            let script = format!("({left_behind}) & echo $!; echo early");
            let output = cli.output(&["exec", "--id", id, "--", "sh", "-c", &script]);
            assert!(started.elapsed() < Duration::from_secs(60));
            let printed = stdout(&output);
            let lines: Vec<_> = printed.lines().take(3).collect();
            assert_eq!(lines[1..], ["early", "soon"], "{id}");
            assert_eq!(
                cli.printed_by(id, "stdout").await,
                printed.as_bytes(),
                "{id}"
            );
            let run = cli.run(id).await;
            assert_eq!((run.status.as_str(), run.error.as_str()), ("ok", ""));
            assert!(run.runtime_seconds < 2.0, "{}", run.runtime_seconds);
            // SIGPIPE has already killed any process that has printed since.
            let _ = Command::new("kill")
                .args(["-KILL", lines[0]])
                .stderr(Stdio::null())
                .status();
        }
    }

    async fn output_that_cannot_be_passed_on_is_recorded_and_reported(database) {
        let cli = Cli::on(database).await;
        for (id, own_code, code) in [("fine", "0", 1), ("failed", "7", 7)] {
            let full = fs::File::options().write(true).open("/dev/full").unwrap();
            let mut command = cli.command(&[
                "exec",
                "--id",
                id,
                "--",
                "sh",
                "-c",
                &format!("seq 3; exit {own_code}"),
            ]);
            let output = command.stdout(full).output().unwrap();
            assert_eq!(output.status.code(), Some(code));
            let message = "runtrail: not all of the output was passed on: No space left on device \
                (os error 28)\n";
            assert_eq!(stderr(&output), message);
            assert_eq!(cli.printed_by(id, "stdout").await, b"1\n2\n3\n");
            assert!(
                cli.run(id)
                    .await
                    .error
                    .ends_with("No space left on device (os error 28)")
            );
        }
    }

    async fn a_non_blocking_pipe_gets_every_byte(database) {
        let cli = Cli::on(database).await;
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut child = cli
            .command(&["exec", "--id", "r", "--", "seq", "100000"])
            .stdout(writer)
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut printed = Vec::new();
        reader.read_to_end(&mut printed).unwrap();
        assert_eq!(printed.len(), 588_895);
        assert!(ended(&mut child).success());
    }
}
