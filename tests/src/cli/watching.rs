//! `watch`: runs as they start and finish.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use runtrail_audit::{SkillRun, Storage};
use serde_json::Value;

use crate::fixture::*;

/// Starts `watch` with these arguments.
fn watch(cli: &Cli, arguments: &[&str]) -> Child {
    let arguments = [&["watch"], arguments].concat();
    let mut command = cli.command_by(WITH_DEFAULT_SIGNALS, &arguments);
    command.spawn().unwrap()
}

/// A command that watches, and the lines that it prints.
struct Watching {
    process: Child,
    lines: Receiver<String>,
}

impl Watching {
    /// Starts `watch` with these arguments, and waits until it watches.
    async fn start(cli: &Cli, arguments: &[&str]) -> Self {
        let mut process = watch(cli, arguments);
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut watching = Self { process, lines };
        let mut number = 0;
        while watching.lines.try_recv().is_err() {
            let run = SkillRun::new(format!("first-{number}"), "skill", cli.store.now());
            cli.store.start_run(&run).await.unwrap();
            number += 1;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            assert!(watching.process.try_wait().unwrap().is_none());
        }
        watching.skip_to(&format!("first-{}", number - 1));
        watching
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// Skips the lines up to the last one that contains this text.
    fn skip_to(&mut self, text: &str) {
        // The line may have been read already.
        while let Ok(line) = self.lines.recv_timeout(std::time::Duration::from_secs(1)) {
            if line.contains(text) {
                return;
            }
        }
    }

    fn interrupt(mut self) {
        send("INT", &self.process.id().to_string());
        assert_eq!(ended(&mut self.process).signal(), Some(2));
    }
}

fn run_now(cli: &Cli, id: &str, skill: &str) -> SkillRun {
    SkillRun::new(id, skill, cli.store.now())
}

on_each_backend! {
    async fn runs_are_printed_when_they_start_and_when_they_finish(database) {
        let cli = Cli::on(database).await;
        let watching = Watching::start(&cli, &["--skill", "skill"]).await;
        cli.store.start_run(&run_now(&cli, "other", "other")).await.unwrap();
        cli.store.start_run(&run_now(&cli, "r\u{7}", "skill")).await.unwrap();
        let started = watching.next();
        assert!(started.ends_with("  running  r\u{FFFD}  skill"), "{started:?}");
        cli.store.finish_run("r\u{7}", &stats()).await.unwrap();
        let finished = watching.next();
        assert!(finished.ends_with("  ok  r\u{FFFD}  skill  2.5s"), "{finished:?}");
        watching.interrupt();
    }

    async fn a_later_process_continues_after_a_line(database) {
        let cli = Cli::on(database).await;
        let watching = Watching::start(&cli, &["--json"]).await;
        let mut cursors = Vec::new();
        for id in ["a", "b"] {
            cli.store.start_run(&run_now(&cli, id, "skill")).await.unwrap();
            let line: Value = serde_json::from_str(&watching.next()).unwrap();
            assert_eq!(line["item"]["id"], id);
            cursors.push(line["cursor"].as_str().unwrap().to_owned());
        }
        watching.interrupt();
        cli.store.finish_run("a", &stats()).await.unwrap();
        let mut later = watch(&cli, &["--json", "--after", &cursors[0]]);
        let mut lines = BufReader::new(later.stdout.take().unwrap()).lines();
        for (id, status) in [("b", "running"), ("a", "ok")] {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!((&line["item"]["id"], &line["item"]["status"]), (&id.into(), &status.into()));
        }
        send("INT", &later.id().to_string());
        ended(&mut later);
        let message = cli.fails(2, &["watch", "--after", "nonsense"]);
        assert!(message.contains("cursor is malformed"), "{message}");
    }
}
