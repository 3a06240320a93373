use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};

use super::exec_signals::{
    StdinFrom, first_line, spawn_on_terminal, spawn_shell_on_terminal, write_to_terminal,
};
use crate::fixture::*;

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Whether the terminal is in cooked mode: it echoes, edits lines, and turns keys such as ^C into
/// signals.
fn is_cooked(terminal: &Terminal) -> bool {
    let cooked = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    tcgetattr(&terminal.user)
        .unwrap()
        .local_modes
        .contains(cooked)
}

async fn payloads(cli: &Cli, id: &str) -> Vec<Value> {
    let events = cli.events(id).await.into_iter();
    let output = events.filter(|event| event.event_type == "output");
    output.map(|event| event.payload).collect()
}

/// Output as a format of `printf`, and the lines that are recorded.
const OUTPUT_AND_LINES: [(&str, &[&str]); 20] = [
    (
        r"\033[1;31mred\033[0m and \033]0;title\007plain\n",
        &["red and plain"],
    ),
    (r"10%%\r50%%\r100%%\n", &["100%"]),
    (r"a longer line\rshort\n", &["shortger line"]),
    (r"a longer line\r\033[Kshort\n", &["short"]),
    (r"a longer line\033[2K\rshort\n", &["short"]),
    (r"helo\b \blo\n", &["hello"]),
    (r"a\tb\n", &["a       b"]),
    (r"\033[5Gx\033[2Dy\n", &["   yx"]),
    (r"abcdef\033[4D\033[2Pz\n", &["abzf"]),
    (r"abc\r\033[2@x\n", &["x abc"]),
    (r"abcdef\r\033[3X\n", &["   def"]),
    (r"one\ntwo\033[1A\rthree\n", &["one", "two", "three"]),
    (
        r"\033[2J\033[1;1Htop\033[10;5Hlower\n",
        &["top", "    lower"],
    ),
    (
        r"gr\303\274\303\237e \344\270\255\b\b\344\272\272 e\314\201\n",
        &["grüße 人 e\u{301}"],
    ),
    (r"a\033[9b end\n", &["aaaaaaaaaa end"]),
    (r"\033(0lqk\033(B lqk\n", &["┌─┐ lqk"]),
    (r"A\033[sBC\033[uX\n", &["AXC"]),
    (r"\0337\033[24;1Hbar\0338line\n", &["bar", "line"]),
    (r"one\033Etwo\n", &["one", "two"]),
    (r"\n\nend", &["", "", "end"]),
];

on_each_backend! {
    async fn a_program_gets_its_own_terminal(database) {
        let cli = Cli::on(database).await;
        let script = "test -t 1 && test -t 2 && test ! -t 0 && stty -F /dev/tty size; \
                      ps -o tpgid= -o pgid= -o sid= -p $$ | tr -s ' ' '\\n' | sort -u | grep -c .; \
                      for i in $(seq 100); do echo o$i; echo e$i >&2; done; exit 3";
        let output = cli.output(&["exec", "--id", "r", "--pty", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(3));
        let lines: String = (1..=100).map(|i| format!("o{i}\ne{i}\n")).collect();
        let expected = format!("24 80\n1\n{lines}");
        assert_eq!(
            (stdout(&output).replace("\r\n", "\n"), stderr(&output)),
            (expected.clone(), String::new())
        );
        assert_eq!(cli.printed_by("r", "output").await, expected.as_bytes());

        let output = cli.output(&["exec", "--pty", "--", "no-such-program"]);
        assert_eq!(output.status.code(), Some(127));
        let output = cli.output(&["exec", "--pty", "--merge", "--", "true"]);
        assert_eq!(output.status.code(), Some(2));
    }

    async fn the_lines_that_a_terminal_shows_are_recorded(database) {
        let cli = Cli::on(database).await;
        let script = "for text; do printf \"$text\"; printf '\\033[1Gnext\\033[K\\n'; done";
        let mut arguments = vec!["exec", "--id", "r", "--pty", "--", "sh", "-c", script, "sh"];
        arguments.extend(OUTPUT_AND_LINES.iter().map(|(printed, _)| *printed));
        assert!(cli.output(&arguments).status.success());
        let mut expected = Vec::new();
        for (printed, lines) in OUTPUT_AND_LINES {
            // The script overwrites a line without a newline.
            let complete = if printed.ends_with(r"\n") {
                lines
            } else {
                &lines[..lines.len() - 1]
            };
            expected.extend(complete.iter().copied());
            expected.push("next");
        }
        let lines: Vec<_> = expected
            .iter()
            .map(|line| json!({ "text": line }))
            .collect();
        assert_eq!(payloads(&cli, "r").await, lines);
    }

    async fn a_long_line_on_a_terminal_is_recorded_in_bounded_pieces(database) {
        let cli = Cli::on(database).await;
        let script = "yes x | tr -d '\\n' | head -c 100000; echo; \
                      printf a; for i in $(seq 3000); do printf '\\314\\201'; done; echo; \
                      printf '\\033[65535Gfar\\n'; printf '\\033]never ended'; \
                      head -c 1000000 /dev/zero | tr '\\0' x";
        assert!(
            cli.output(&["exec", "--id", "r", "--pty", "--", "sh", "-c", script])
                .status
                .success()
        );
        let payloads = payloads(&cli, "r").await;
        let texts: Vec<_> = payloads
            .iter()
            .map(|payload| payload["text"].as_str().unwrap())
            .collect();
        assert!(texts.iter().all(|text| text.len() <= 16 << 10));
        let (first, rest) = texts.split_at(texts.len() - 3);
        assert_eq!(first.concat(), "x".repeat(100_000));
        assert_eq!(rest[0].chars().count(), 8);
        assert_eq!([rest[1].trim_end(), rest[2]], ["", "far"]);
    }

    async fn a_prompt_is_recorded_before_it_is_answered(database) {
        let cli = Cli::on(database).await;
        let mut terminal = Terminal::open();
        let script = "printf 'Name? '; read name; stty -echo; printf 'Password? '; read password; \
                      stty echo; echo; echo \"$name $password\" | tr a-z A-Z; exit 5";
        let arguments = ["exec", "--id", "r", "--pty", "--", "sh", "-c", script];
        let mut child = spawn_on_terminal(&cli, &terminal, StdinFrom::Terminal, &arguments);
        cli.wait_for_events("r", 1).await;
        assert!(!is_cooked(&terminal));
        write_to_terminal(&terminal, "bog\x7fb\n");
        cli.wait_for_events("r", 3).await;
        write_to_terminal(&terminal, "secret\n");
        assert_eq!(ended(&mut child).code(), Some(5));
        assert!(is_cooked(&terminal));
        let shown = terminal.shown_until("BOB SECRET");
        assert!(
            shown.starts_with("Name? bog\u{8} \u{8}b\r\nPassword? \r\n"),
            "{shown:?}"
        );
        let expected = [
            json!({"text": "Name? ", "newline": false}),
            json!({"text": "bob"}),
            json!({"text": "Password? ", "newline": false}),
            json!({"text": ""}),
            json!({"text": "BOB SECRET"}),
        ];
        assert_eq!(payloads(&cli, "r").await, expected);
    }

    async fn a_program_can_prompt_on_its_terminal_whatever_its_stdin(database) {
        let cli = Cli::on(database).await;
        let mut terminal = Terminal::open();
        let script = "read x; stty -echo </dev/tty; printf 'Password? '; read y </dev/tty; echo \
            \"$x$y\" | tr a-z A-Z; exit 5";
        let arguments = ["exec", "--id", "r", "--pty", "--", "sh", "-c", script];
        std::fs::write(cli.path("input"), "piped\n").unwrap();
        let mut child = spawn_on_terminal(&cli, &terminal, StdinFrom::File, &arguments);
        terminal.shown_until("Password? ");
        write_to_terminal(&terminal, "typed\n");
        assert_eq!(ended(&mut child).code(), Some(5));
        assert!(is_cooked(&terminal));
        let shown = terminal.shown_until("PIPEDTYPED");
        assert!(!shown.contains("typed"), "{shown:?}");
    }

    async fn signal_keys_reach_only_the_program(database) {
        let cli = Cli::on(database).await;
        let mut terminal = Terminal::open();
        let script = "n=0; trap 'n=$((n+1))' INT; echo ready; while [ $n = 0 ]; do sleep 0.1; \
                      done; sleep 0.5; echo \"$n interrupts\"; cat >rest; exit 6";
        let arguments = ["exec", "--id", "r", "--pty", "--", "sh", "-c", script];
        let mut child = spawn_on_terminal(&cli, &terminal, StdinFrom::Terminal, &arguments);
        terminal.shown_until("ready");
        write_to_terminal(&terminal, "\x03");
        terminal.shown_until("1 interrupts");
        write_to_terminal(&terminal, "typed\n\x04");
        assert_eq!(ended(&mut child).code(), Some(6));
        assert_eq!(
            std::fs::read_to_string(cli.path("rest")).unwrap(),
            "typed\n"
        );
        assert_eq!(cli.run("r").await.error, "exit code 6");
    }

    async fn the_window_size_is_passed_on(database) {
        let cli = Cli::on(database).await;
        let mut terminal = Terminal::open();
        tcsetwinsize(&terminal.user, size(40, 100)).unwrap();
        let script = "trap 'stty size; exit 7' WINCH; stty size; while :; do sleep 0.05; done";
        let arguments = ["exec", "--id", "r", "--pty", "--", "sh", "-c", script];
        let mut child = spawn_on_terminal(&cli, &terminal, StdinFrom::Terminal, &arguments);
        terminal.shown_until("40 100");
        tcsetwinsize(&terminal.user, size(50, 132)).unwrap();
        assert_eq!(ended(&mut child).code(), Some(7));
        assert_eq!(cli.printed_by("r", "output").await, b"40 100\n50 132\n");
    }

    async fn the_terminal_modes_are_restored_however_the_program_ends(database) {
        let cli = Cli::on(database).await;
        for (id, options, signal, code) in [
            ("killed", &[][..], Some("TERM"), 143),
            ("hung up", &[], Some("HUP"), 129),
            ("timed out", &["--timeout", "2s"], None, 124),
        ] {
            let mut terminal = Terminal::open();
            let before = tcgetattr(&terminal.user).unwrap().local_modes;
            let script = ["--", "sh", "-c", "echo pid=$$; setsid sleep 600"];
            let arguments = [&["exec", "--id", id, "--pty"], options, &script].concat();
            let mut child = spawn_on_terminal(&cli, &terminal, StdinFrom::Terminal, &arguments);
            terminal.shown_until("\n");
            eventually(|| (!is_cooked(&terminal)).then_some(()));
            if let Some(signal) = signal {
                send(signal, &child.id().to_string());
            }
            assert_eq!(ended(&mut child).code(), Some(code), "{id}");
            assert_eq!(
                tcgetattr(&terminal.user).unwrap().local_modes,
                before,
                "{id}"
            );
            assert!(!cli.run(id).await.is_running());
        }
    }

    async fn a_background_run_leaves_the_terminal_to_the_shell(database) {
        let cli = Cli::on(database).await;
        let mut terminal = Terminal::open();
        let mut shell = spawn_shell_on_terminal(&cli, &terminal);
        let script = "printf ready; read x; echo got=$x; read y; echo then=$y; exit 5";
        write_to_terminal(
            &terminal,
            &format!("PS1=; set +o history; runtrail exec --id r --pty -- sh -c '{script}' &\n"),
        );
        cli.wait_for_events("r", 1).await;
        write_to_terminal(&terminal, "echo in-the-$((40+2))-shell\n");
        terminal.shown_until("in-the-42-shell");
        write_to_terminal(&terminal, "fg\n");
        eventually(|| (!is_cooked(&terminal)).then_some(()));
        write_to_terminal(&terminal, "hello\n");
        terminal.shown_until("got=hello");
        // ^Z goes to the program, but another process can still stop runtrail.
        let children = Command::new("pgrep")
            .args(["-P", &shell.id().to_string()])
            .output()
            .unwrap();
        let runtrail = stdout(&children).trim().to_owned();
        send("TSTP", &runtrail);
        eventually(|| {
            let stat = std::fs::read_to_string(format!("/proc/{runtrail}/stat")).unwrap();
            stat.contains(") T ").then_some(())
        });
        terminal.shown_until("Stopped");
        write_to_terminal(&terminal, "echo in-the-$((50+2))-shell\n");
        terminal.shown_until("in-the-52-shell");
        write_to_terminal(&terminal, "fg\n");
        eventually(|| (!is_cooked(&terminal)).then_some(()));
        write_to_terminal(&terminal, "again\n");
        terminal.shown_until("then=again");
        cli.wait_until_finished("r").await;
        assert_eq!(cli.run("r").await.error, "exit code 5");
        eventually(|| {
            write_to_terminal(&terminal, "exit\n");
            shell.try_wait().unwrap()
        });
    }

    async fn redirected_input_goes_straight_to_the_program(database) {
        let cli = Cli::on(database).await;
        // Longer than any line that a terminal accepts.
        let line = "x".repeat(200_000);
        let mut child = cli
            .command(&[
                "exec",
                "--id",
                "r",
                "--pty",
                "--",
                "sh",
                "-c",
                "wc -c; wc -c; cat </dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
        assert!(ended(&mut child).success());
        assert_eq!(cli.printed_by("r", "output").await, b"200000\n0\n");
    }

    async fn the_terminal_is_hung_up_when_its_reader_exits(database) {
        let cli = Cli::on(database).await;
        let started = Instant::now();
        let mut child = cli.spawn_exec(&["--id", "r", "--pty", "--", "yes"]);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        drop(stdout);
        assert_eq!(ended(&mut child).code(), Some(129));
        assert!(started.elapsed() < Duration::from_secs(20));
        assert!(!cli.run("r").await.is_running());
    }

    async fn a_program_that_closes_its_streams_keeps_running(database) {
        let cli = Cli::on(database).await;
        let script = "echo $$; exec <&- >&- 2>&-; sleep 0.5; echo late >/dev/tty; exit 4";
        let mut child = cli.spawn_exec(&["--id", "r", "--pty", "--", "sh", "-c", script]);
        first_line(&mut child);
        assert_eq!(ended(&mut child).code(), Some(4));
        assert!(cli.printed_by("r", "output").await.ends_with(b"\nlate\n"));
    }
}
