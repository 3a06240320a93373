//! Runs tests, and stops them when a case hangs. Without that, nobody would learn which case it was.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long no case may end. The slowest one builds the command, which takes minutes.
const SILENCE: Duration = Duration::from_mins(10);

/// Runs `cargo test` and passes its output on. If no case ends for [`SILENCE`], kills the tests and
/// names the cases that were still running.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let mut tests = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo can't be run")?;
    let output = tests.stdout.take().context("cargo has no stdout")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut slow = BTreeSet::new();
    // Before the first line, cargo may compile.
    let mut received = lines.recv().map_err(RecvTimeoutError::from);
    let end = loop {
        match received {
            Ok(line) => {
                stdout().write_all(&[&line[..], b"\n"].concat())?;
                note(&String::from_utf8_lossy(&line), &mut slow);
            }
            Err(end) => break end,
        }
        received = lines.recv_timeout(SILENCE);
    };
    if end == RecvTimeoutError::Timeout {
        kill_with_descendants(&tests)?;
        for name in &slow {
            writeln!(stdout(), "test {name} ... FAILED, since it hangs")?;
        }
    }
    let status = tests.wait()?;
    ensure!(
        end == RecvTimeoutError::Disconnected,
        "no case has ended for {SILENCE:?}"
    );
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

/// Notes which cases are slow, from a line of the test runner's output.
fn note(line: &str, slow: &mut BTreeSet<String>) {
    let Some(line) = line.strip_prefix("test ") else {
        return;
    };
    if let Some((name, _)) = line.split_once(" has been running for over ") {
        slow.insert(name.to_owned());
    } else if let Some((name, _)) = line.split_once(" ... ") {
        slow.remove(name);
    }
}

/// Kills a process, its children, their children and so on, so that none keeps our output open.
fn kill_with_descendants(process: &Child) -> Result<()> {
    let table = Command::new("ps")
        .args(["-e", "-o", "ppid=,pid="])
        .output()?;
    let table = String::from_utf8_lossy(&table.stdout);
    let parents_and_children: Vec<_> = table
        .lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .map(|(parent, child)| (parent, child.trim()))
        .collect();
    let root = process.id().to_string();
    let mut found = vec![root.as_str()];
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        let children = parents_and_children
            .iter()
            .filter(|(parent, _)| *parent == process);
        found.extend(children.map(|(_, child)| *child));
        next += 1;
    }
    // One that has ended since then makes `kill` fail, after it has killed the others.
    let _ = Command::new("kill").arg("-KILL").args(found).status()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_case_is_noted_until_it_ends() {
        let mut slow = BTreeSet::new();
        note("test a::b has been running for over 60 seconds", &mut slow);
        note("test c has been running for over 60 seconds", &mut slow);
        note("test a::b ... ok", &mut slow);
        note("running 3 tests", &mut slow);
        assert_eq!(slow.into_iter().collect::<Vec<_>>(), ["c"]);
    }
}
