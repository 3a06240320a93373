use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use crate::fixture::*;

/// Reads the first line that a program prints.
pub(super) fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.ends_with('\n'), "the program has printed no line");
    line.trim_end().to_owned()
}

/// The stdin of a `runtrail` that has a controlling terminal.
pub(super) enum StdinFrom {
    Terminal,
    Null,
    /// The file `input`.
    File,
}

/// Starts `runtrail` in the foreground of a terminal.
pub(super) fn spawn_on_terminal(
    cli: &Cli,
    terminal: &Terminal,
    stdin_from: StdinFrom,
    arguments: &[&str],
) -> Child {
    let redirected = match stdin_from {
        StdinFrom::Terminal => r#"exec "$0" "$@""#,
        StdinFrom::Null => r#"exec "$0" "$@" </dev/null"#,
        StdinFrom::File => r#"exec "$0" "$@" <input"#,
    };
    // `setsid --ctty` makes its stdin the controlling terminal.
    let by = [
        &["setsid", "--ctty"],
        WITH_DEFAULT_SIGNALS,
        &["sh", "-c", redirected],
    ]
    .concat();
    spawn_on(terminal, cli.command_by(&by, arguments))
}

/// Starts an interactive shell with job control on a terminal.
pub(super) fn spawn_shell_on_terminal(cli: &Cli, terminal: &Terminal) -> Child {
    let by = [
        &["setsid", "--ctty"],
        WITH_DEFAULT_SIGNALS,
        &["bash", "--norc", "--noprofile", "-i", "-s"],
    ]
    .concat();
    spawn_on(terminal, cli.command_by(&by, &[]))
}

fn spawn_on(terminal: &Terminal, mut command: Command) -> Child {
    command
        .stdin(terminal.stream())
        .stdout(terminal.stream())
        .stderr(terminal.stream())
        .spawn()
        .unwrap()
}

pub(super) fn write_to_terminal(terminal: &Terminal, text: &str) {
    (&terminal.user).write_all(text.as_bytes()).unwrap();
}

fn is_alive(process: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat"));
    state.is_ok_and(|state| !state.contains(") Z "))
}

/// Waits until a process has ended, which takes a moment on a busy machine.
fn wait_for_end(process: &str) {
    eventually(|| (!is_alive(process)).then_some(()));
}

/// The environment variable with the path of `runtrail`, for a child process.
const CHILD_PROGRAM: &str = "RUNTRAIL_TEST_CHILD_PROGRAM";

/// Started by `zombies_are_not_waited_for`.
#[test]
#[ignore = "started by another test"]
fn child_that_reaps_nothing() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let begun = Instant::now();
    let status = Command::new("setsid")
        .arg(std::env::var_os(CHILD_PROGRAM).unwrap())
        .args(["exec", "-u", &std::env::var(CHILD_URL).unwrap()])
        .args([
            "--timeout",
            "1s",
            "--kill-after",
            "30s",
            "--",
            "sh",
            "-c",
            "echo hi; sleep 60",
        ])
        .status();
    assert_eq!(status.unwrap().code(), Some(124));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

on_each_backend! {
    async fn a_killed_program_leaves_a_finished_run_with_the_signal(database) {
        let cli = Cli::on(database).await;
        let mut child = cli.spawn_exec(&["--id", "r", "--", "sh", "-c", "echo $$; exec sleep 600"]);
        let program = first_line(&mut child);
        send("KILL", &program);
        assert_eq!(ended(&mut child).code(), Some(137));
        let run = cli.run("r").await;
        assert_eq!((run.status.as_str(), run.is_running()), ("error", false));
        assert_eq!(run.error, "killed by SIGKILL (signal 9)");
        let exit = cli.events("r").await.pop().unwrap();
        assert_eq!(
            (
                exit.payload["signal"].as_u64(),
                exit.payload["signal_name"].as_str()
            ),
            (Some(9), Some("SIGKILL"))
        );
    }

    async fn a_signal_to_runtrail_reaches_the_program_and_finishes_the_run(database) {
        let cli = Cli::on(database).await;
        for (signal, number) in [
            ("TERM", 15),
            ("INT", 2),
            ("HUP", 1),
            ("QUIT", 3),
            ("USR1", 10),
        ] {
            let mut child = cli.spawn_exec(&[
                "--id",
                signal,
                "--",
                "sh",
                "-c",
                "ulimit -c 0; echo $$; exec sleep 600",
            ]);
            let program = first_line(&mut child);
            send(signal, &child.id().to_string());
            let status = ended(&mut child);
            // A shell ends its script only if SIGINT kills the program, so it must kill `runtrail`.
            match signal {
                "INT" => assert_eq!(status.signal(), Some(number)),
                _ => assert_eq!(status.code(), Some(128 + number), "{signal}"),
            }
            assert!(!is_alive(&program));
            let run = cli.run(signal).await;
            assert_eq!((run.status.as_str(), run.is_running()), ("error", false));
            let expected = format!(
                "runtrail received SIG{signal} and forwarded it; killed by SIG{signal} (signal \
                {number})"
            );
            assert_eq!(run.error, expected);
        }
    }

    async fn every_signal_that_ends_a_process_reaches_the_program_and_finishes_the_run(database) {
        let cli = Cli::on(database).await;
        let mut signals = vec![
            ("ALRM", 14),
            ("VTALRM", 26),
            ("PROF", 27),
            ("XCPU", 24),
            ("XFSZ", 25),
            ("IO", 29),
            ("PWR", 30),
            ("STKFLT", 16),
            ("SYS", 31),
            ("ABRT", 6),
            ("TRAP", 5),
            ("USR2", 12),
            ("PIPE", 13),
        ];
        signals.extend([("RTMIN", 34), ("RTMIN+5", 39), ("RTMAX", 64)]);
        let start = |&(signal, number): &(&'static str, i32)| {
            // Not sent by the shell, which treats some signals specially.
            let script = "ulimit -c 0; echo $$; exec sleep 600";
            (
                signal,
                number,
                cli.spawn_exec(&["--id", signal, "--", "sh", "-c", script]),
            )
        };
        for (signal, number, mut child) in signals.iter().map(start).collect::<Vec<_>>() {
            let program = first_line(&mut child);
            // By number: not every `kill` knows all names.
            send(&number.to_string(), &child.id().to_string());
            assert_eq!(ended(&mut child).code(), Some(128 + number), "{signal}");
            assert!(!is_alive(&program), "{signal}");
            let run = cli.run(signal).await;
            assert!(!run.is_running(), "{signal}");
            let name = match signal {
                "RTMIN" => "SIGRTMIN+0",
                "RTMAX" => "SIGRTMIN+30",
                name => &format!("SIG{name}"),
            };
            let expected = format!(
                "runtrail received {name} and forwarded it; killed by {name} (signal {number})"
            );
            assert_eq!(run.error, expected);
        }
    }

    async fn a_file_size_limit_does_not_end_the_recording(database) {
        let cli = Cli::on(database).await;
        // The output exceeds the limit of 600 blocks of at least 512 bytes. The database doesn't,
        // since carriage returns leave only the last state of the line to be recorded.
        let script = "ulimit -f 600; exec runtrail exec --id r -- \
                      sh -c 'yes 0123456789 | head -c 1000000 | tr \"\\n\" \"\\r\"; exit 3' \
                          >printed";
        let output = cli.command_by(&["sh", "-c", script], &[]).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains("File too large"), "{message}");
        let run = cli.run("r").await;
        assert!(run.error.contains("File too large"), "{}", run.error);
        assert!(!run.is_running(), "{message}");
    }

    async fn a_program_inherits_unchanged_signal_dispositions(database) {
        let cli = Cli::on(database).await;
        let script = "grep -E 'Sig(Ign|Blk|Cgt):' /proc/self/status";
        let alone = cli
            .command_by(&["env", "--default-signal", "sh", "-c", script], &[])
            .output()
            .unwrap();
        let by = ["env", "--default-signal"];
        let recorded = cli
            .command_by(&by, &["exec", "--", "sh", "-c", script])
            .output()
            .unwrap();
        let dispositions = |output: &Output| -> Vec<(String, u64)> {
            // The C library reserves two signals, and ignores them in the programs that it starts.
            const RESERVED: u64 = 0b11 << 31;

            let text = stdout(output);
            let lines = text.lines().map(|line| line.split_once(":\t").unwrap());
            let masks =
                lines.map(|(name, mask)| (name.to_owned(), u64::from_str_radix(mask, 16).unwrap()));
            masks.map(|(name, mask)| (name, mask & !RESERVED)).collect()
        };
        assert_eq!(dispositions(&recorded), dispositions(&alone));
        assert!(
            dispositions(&alone).contains(&("SigIgn".into(), 0)),
            "{}",
            stdout(&alone)
        );
    }

    async fn a_timeout_ends_processes_that_have_left_the_group(database) {
        let cli = Cli::on(database).await;
        let started = Instant::now();
        let handling = "setsid sh -c 'trap \": >asked; exit\" TERM; echo $$; while :; do sleep \
            0.05; done' & sleep 600";
        let ignoring =
            "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & sleep 600";
        for (id, script) in [("handling", handling), ("ignoring", ignoring)] {
            let arguments = [
                "--id",
                id,
                "--timeout",
                "5s",
                "--kill-after",
                "5s",
                "--",
                "sh",
                "-c",
                script,
            ];
            let mut child = cli.spawn_exec(&arguments);
            let daemon = first_line(&mut child);
            assert_eq!(ended(&mut child).code(), Some(124));
            wait_for_end(&daemon);
        }
        eventually(|| cli.path("asked").exists().then_some(()));
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    /// In many containers, PID 1 doesn't reap zombies.
    async fn zombies_are_not_waited_for(database) {
        let cli = Cli::on(database).await;
        let mut command = test_command("cli::exec_signals::child_that_reaps_nothing");
        command
            .env(CHILD_URL, database.url())
            .env(CHILD_PROGRAM, cli.command(&[]).get_program());
        let output = command.current_dir(cli.folder()).output().unwrap();
        assert!(output.status.success(), "{}", printed(&output));
    }

    async fn orphans_are_reaped(database) {
        let cli = Cli::on(database).await;
        let script = "for i in 1 2 3 4 5; do (sleep 0.1 & echo $!); done; while ! test -e stop; \
            do sleep 0.05; done";
        let mut child = cli.spawn_exec(&["--", "sh", "-c", script]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..5 {
            let orphan = lines.next().unwrap().unwrap();
            eventually(|| (!std::path::Path::new("/proc").join(&orphan).exists()).then_some(()));
        }
        fs::write(cli.path("stop"), "").unwrap();
        assert!(ended(&mut child).success());
    }

    async fn a_stopped_program_can_be_ended(database) {
        let cli = Cli::on(database).await;
        let mut child = cli.spawn_exec(&["--id", "r", "--", "sh", "-c", "echo $$; exec sleep 600"]);
        let program = first_line(&mut child);
        send("STOP", &program);
        send("TERM", &child.id().to_string());
        assert_eq!(ended(&mut child).code(), Some(143));
        let mut child = cli.spawn_exec(&[
            "--timeout",
            "2s",
            "--kill-after",
            "1h",
            "--",
            "sh",
            "-c",
            "echo $$; exec sleep 600",
        ]);
        send("STOP", &first_line(&mut child));
        assert_eq!(ended(&mut child).code(), Some(124));
    }

    async fn a_program_brought_to_the_foreground_gets_the_terminal(database) {
        let cli = Cli::on(database).await;
        let mut terminal = Terminal::open();
        let mut shell = spawn_shell_on_terminal(&cli, &terminal);
        write_to_terminal(
            &terminal,
            "PS1=; set +o history; runtrail exec --id r -- sh -c 'echo pid=$$; read x; echo \
            got=$x; read y; echo then=$y; exit 5' &\n",
        );
        cli.wait_for_events("r", 1).await;
        let program = cli.printed_by("r", "stdout").await;
        let program = String::from_utf8(program)
            .unwrap()
            .trim()
            .replace("pid=", "");
        let is_stopped = || {
            let stat = fs::read_to_string(format!("/proc/{program}/stat")).unwrap_or_default();
            stat.contains(") T ").then_some(())
        };
        eventually(is_stopped);
        write_to_terminal(&terminal, "fg\n");
        eventually(|| is_stopped().is_none().then_some(()));
        write_to_terminal(&terminal, "hello\n");
        terminal.shown_until("got=hello");
        // ^Z: the shell gets the terminal, and returns it.
        write_to_terminal(&terminal, "\x1a");
        eventually(is_stopped);
        write_to_terminal(&terminal, "echo in-the-$((40+2))-shell\n");
        terminal.shown_until("in-the-42-shell");
        write_to_terminal(&terminal, "fg\n");
        eventually(|| is_stopped().is_none().then_some(()));
        write_to_terminal(&terminal, "again\n");
        terminal.shown_until("then=again");
        cli.wait_until_finished("r").await;
        assert_eq!(cli.run("r").await.error, "exit code 5");

        // A program that was stopped in the background still ends on a signal.
        write_to_terminal(
            &terminal,
            "runtrail exec --id k -- sh -c 'echo ready; read x' &\n",
        );
        cli.wait_for_events("k", 1).await;
        write_to_terminal(&terminal, "sleep 0.5; kill -TERM %2 %1 $!\n");
        cli.wait_until_finished("k").await;
        write_to_terminal(&terminal, "exit\n");
        eventually(|| {
            write_to_terminal(&terminal, "exit\n");
            shell.try_wait().unwrap()
        });
    }

    async fn a_program_can_handle_a_signal_itself(database) {
        let cli = Cli::on(database).await;
        let script = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.02; done";
        let mut child = cli.spawn_exec(&["--id", "r", "--", "sh", "-c", script]);
        assert_eq!(first_line(&mut child), "ready");
        send("TERM", &child.id().to_string());
        assert_eq!(ended(&mut child).code(), Some(4));
        assert_eq!(
            cli.run("r").await.error,
            "runtrail received SIGTERM and forwarded it; exit code 4"
        );
        assert_eq!(cli.printed_by("r", "stdout").await, b"ready\nbye\n");
    }

    async fn a_timeout_ends_the_program_and_its_child_processes(database) {
        let cli = Cli::on(database).await;
        let started = Instant::now();
        let script = "sleep 600 & echo $!; wait";
        let mut child = cli.spawn_exec(&["--id", "r", "--timeout", "3s", "--", "sh", "-c", script]);
        let grandchild = first_line(&mut child);
        assert_eq!(ended(&mut child).code(), Some(124));
        assert!(started.elapsed() > Duration::from_secs(3));
        wait_for_end(&grandchild);
        let run = cli.run("r").await;
        assert_eq!((run.status.as_str(), run.is_running()), ("timeout", false));
        assert_eq!(
            run.error,
            "timed out after 3s; killed by SIGTERM (signal 15)"
        );
        assert_eq!(
            cli.events("r").await.pop().unwrap().payload["timed_out"],
            true
        );
    }

    async fn a_program_that_ignores_its_timeout_is_killed(database) {
        let cli = Cli::on(database).await;
        let script = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
        let arguments = [
            "--id",
            "r",
            "--timeout",
            "2s",
            "--kill-after",
            "300ms",
            "--",
            "sh",
            "-c",
            script,
        ];
        let mut child = cli.spawn_exec(&arguments);
        assert_eq!(ended(&mut child).code(), Some(124));
        assert_eq!(
            cli.run("r").await.error,
            "timed out after 2s; killed by SIGKILL (signal 9)"
        );
    }

    async fn a_timeout_that_is_not_reached_changes_nothing(database) {
        let cli = Cli::on(database).await;
        cli.succeeds(&["exec", "--id", "r", "--timeout", "1h", "--", "true"]);
        assert_eq!(cli.run("r").await.status.as_str(), "ok");
    }

    /// `--kill-after` is longer than the wait for the remaining output.
    async fn a_timeout_kills_child_processes_that_ignore_sigterm(database) {
        let cli = Cli::on(database).await;
        let script = "sh -c \"trap '' TERM; echo \\$\\$; while :; do sleep 0.05; done\" & wait";
        let arguments = [
            "--id",
            "r",
            "--timeout",
            "2s",
            "--kill-after",
            "4s",
            "--",
            "sh",
            "-c",
            script,
        ];
        let mut child = cli.spawn_exec(&arguments);
        let grandchild = first_line(&mut child);
        assert_eq!(ended(&mut child).code(), Some(124));
        wait_for_end(&grandchild);
    }

    async fn a_nested_run_is_finished_before_a_timeout_kills_it(database) {
        let cli = Cli::on(database).await;
        let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let arguments = [
            "--id",
            "outer",
            "--timeout",
            "3s",
            "--kill-after",
            "4s",
            "--",
            "runtrail",
            "exec",
            "--id",
            "inner",
            "--",
            "sh",
            "-c",
            stubborn,
        ];
        assert_eq!(ended(&mut cli.spawn_exec(&arguments)).code(), Some(124));
        let inner = cli.run("inner").await;
        assert_eq!(
            inner.error,
            "runtrail received SIGTERM and forwarded it; killed by SIGKILL (signal 9)"
        );
    }

    async fn a_stalled_reader_keeps_no_run_open(database) {
        let cli = Cli::on(database).await;
        let mut terminated = cli.spawn_exec(&["--id", "terminated", "--", "yes"]);
        let mut timed_out = cli.spawn_exec(&["--id", "timed out", "--timeout", "3s", "--", "yes"]);
        cli.wait_for_events("terminated", 1).await;
        send("TERM", &terminated.id().to_string());
        assert_eq!(ended(&mut terminated).code(), Some(143));
        assert_eq!(ended(&mut timed_out).code(), Some(124));
        for id in ["terminated", "timed out"] {
            let run = cli.run(id).await;
            assert!(!run.is_running());
            assert!(
                run.error
                    .ends_with("not all of the output was passed on: its reader has stalled"),
                "{}",
                run.error
            );
        }
    }

    async fn ignored_signals_stay_ignored(database) {
        let cli = Cli::on(database).await;
        let ignoring = [
            "setsid",
            "env",
            "--ignore-signal=HUP",
            "--ignore-signal=CHLD",
        ];
        let nohup = |id: &str, script: &str| {
            let arguments = ["exec", "--id", id, "--", "sh", "-c", script];
            cli.command_by(&ignoring, &arguments).spawn().unwrap()
        };
        let mut child = nohup(
            "r",
            "echo ready; while ! test -e stop; do sleep 0.02; done; exit 6",
        );
        assert_eq!(first_line(&mut child), "ready");
        send("HUP", &child.id().to_string());
        tokio::time::sleep(Duration::from_millis(200)).await;
        fs::write(cli.path("stop"), "").unwrap();
        assert_eq!(ended(&mut child).code(), Some(6));
        assert_eq!(cli.run("r").await.error, "exit code 6");
    }

    async fn a_program_on_a_terminal_reads_from_it_and_gets_each_interrupt_once(database) {
        let cli = Cli::on(database).await;
        for (id, stdin_from, from) in [
            ("by stdin", StdinFrom::Terminal, ""),
            ("by its name", StdinFrom::Null, "</dev/tty"),
        ] {
            let mut terminal = Terminal::open();
            let script = format!(
                "n=0; trap 'n=$((n+1))' INT; read name {from}; echo \"hello $name\"; \
                 while [ $n = 0 ]; do sleep 0.1; done; sleep 0.5; echo \"$n interrupts\"; exit 5"
            );
            let mut child = spawn_on_terminal(
                &cli,
                &terminal,
                stdin_from,
                &["exec", "--id", id, "--", "sh", "-c", &script],
            );
            terminal.user.write_all(b"you\n").unwrap();
            terminal.shown_until("hello you");
            // ^C, which the terminal turns into a SIGINT to the whole foreground group.
            terminal.user.write_all(b"\x03").unwrap();
            assert_eq!(ended(&mut child).code(), Some(5));
            let shown = terminal.rest();
            assert!(shown.contains("1 interrupts"), "{shown}");
            let run = cli.run(id).await;
            assert_eq!(
                (run.error.as_str(), run.is_running()),
                ("exit code 5", false)
            );
        }
    }

    /// `timeout` signals runtrail and the program at once, and the program may end before runtrail
    /// gets its signal.
    async fn a_signal_to_runtrail_and_its_program_leaves_no_run_unfinished(database) {
        let cli = Cli::on(database).await;
        cli.succeeds(&["exec", "true"]);
        for _ in 0..25 {
            let output = cli
                .command_by(
                    &["timeout", "--preserve-status", "0.3"],
                    &["exec", "--", "sleep", "60"],
                )
                .output()
                .unwrap();
            assert!(
                !stderr(&output).contains("incompletely"),
                "{}",
                stderr(&output)
            );
        }
        assert_eq!(cli.succeeds(&["count", "--status", "running"]), "0\n");
    }

    /// The kernel sends SIGHUP only to the leader of the session.
    async fn a_terminal_that_hangs_up_ends_the_program(database) {
        let cli = Cli::on(database).await;
        let mut terminal = Terminal::open();
        let script = "echo \"program $$\"; echo shown; exec sleep 600";
        let mut child = spawn_on_terminal(
            &cli,
            &terminal,
            StdinFrom::Terminal,
            &["exec", "--id", "r", "--", "sh", "-c", script],
        );
        let shown = terminal.shown_until("shown");
        let program = shown
            .lines()
            .find_map(|line| line.trim().strip_prefix("program "))
            .unwrap()
            .to_owned();
        drop(terminal);
        ended(&mut child);
        wait_for_end(&program);
        let run = cli.run("r").await;
        assert!(!run.is_running());
        assert!(run.error.contains("SIGHUP"), "{}", run.error);
    }

    async fn a_signal_ends_nested_runs_too(database) {
        let cli = Cli::on(database).await;
        let inner = "runtrail exec --id inner -- sh -c 'echo $$; exec sleep 600'";
        let mut child = cli.spawn_exec(&[
            "--id",
            "outer",
            "--",
            "sh",
            "-c",
            &format!("{inner}; exit 9"),
        ]);
        let program = first_line(&mut child);
        send("TERM", &child.id().to_string());
        ended(&mut child);
        // The inner runtrail may still be ending it.
        wait_for_end(&program);
        let outer = cli.run("outer").await;
        assert!(!outer.is_running());
        // The inner runtrail may still be recording its outcome.
        cli.wait_until_finished("inner").await;
        assert_eq!(
            cli.run("inner").await.parent_run_id.as_deref(),
            Some("outer")
        );
    }
}
