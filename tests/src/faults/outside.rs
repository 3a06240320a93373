//! What is stored, as `sqlite3` and `psql` see it, and whether it is what it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use runtrail_audit::{SkillRun, SkillRunLog};
use serde_json::{Value, json};

use super::ledger::Entry;
use super::script::{EVENTS, Script, event};
use crate::fixture::{Spawned, eventually};

/// The command line of a database's own makers, without its input.
pub(super) fn client(url: &str) -> Command {
    match url.strip_prefix("sqlite://") {
        Some(path) => {
            let file = path.split('?').next().unwrap();
            let mut command = Command::new("sqlite3");
            command.args(["-batch", "-bail", "-cmd", ".timeout 10000", file]);
            command
        }
        None => {
            let mut command = Command::new("psql");
            command
                .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
                .args(["--set", "ON_ERROR_STOP=1", url]);
            command
        }
    }
}

/// Asks a database something; each line of the answer.
pub(super) fn ask(url: &str, sql: &str) -> Vec<String> {
    let mut client = Spawned::new(client(url).stdin(Stdio::piped()).stdout(Stdio::piped()));
    client.write(&format!("{sql};\n"));
    client.close_stdin();
    let answer = client.wait_for_success();
    answer.lines().map(str::to_owned).collect()
}

/// How many rows a table, or a part of it, has.
pub(super) fn count(url: &str, table: &str) -> u64 {
    ask(url, &format!("SELECT count(*) FROM {table}"))[0]
        .parse()
        .unwrap()
}

/// Ends every connection to this PostgreSQL database, as a server that restarts does.
pub(super) fn end_connections(url: &str) {
    ask(
        url,
        // And waits until they have ended, for some seconds.
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
         WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
}

/// Waits until a PostgreSQL server is done with what killed processes had asked of it.
pub(super) fn settle(url: &str) {
    let busy = "pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' \
         AND state <> 'idle' AND pid <> pg_backend_pid()";
    if !url.starts_with("sqlite:") {
        eventually(|| (count(url, busy) == 0).then_some(()));
    }
}

/// No event is without its run.
#[track_caller]
pub(super) fn assert_no_orphans(url: &str) {
    let orphans = "skill_run_logs WHERE run_id NOT IN (SELECT id FROM skill_runs)";
    assert_eq!(count(url, orphans), 0);
}

/// A database as others find it.
pub(super) struct History {
    pub(super) runs: BTreeMap<String, Value>,
    pub(super) events: BTreeMap<(String, u64), Value>,
}

impl History {
    /// Everything, from a database that has no damage.
    pub(super) fn read(url: &str) -> Self {
        let is_sqlite = url.starts_with("sqlite:");
        let array = if is_sqlite {
            assert_eq!(ask(url, "PRAGMA integrity_check"), ["ok"]);
            assert_eq!(ask(url, "PRAGMA foreign_key_check"), [""; 0]);
            "json_array"
        } else {
            "json_build_array"
        };
        let rows = |columns: &str, table: &str| -> Vec<Value> {
            let lines = ask(url, &format!("SELECT {array}({columns}) FROM {table}"));
            lines
                .iter()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();

        let runs = rows(
            "id, skill_id, caller_id, channel_id, parent_run_id, inputs, started_at, \
             CASE WHEN finished_at IS NULL THEN 'running' ELSE 'finished' END, status, output, error, tool_calls, \
             runtime_seconds, total_input_tokens, total_output_tokens, total_thinking_tokens",
            "skill_runs",
        );
        let events = rows(
            "run_id, sequence, created_at, event_type, payload",
            "skill_run_logs",
        );
        Self {
            runs: runs.into_iter().map(|row| (text(&row[0]), row)).collect(),
            events: events
                .into_iter()
                .map(|row| ((text(&row[0]), row[1].as_u64().unwrap()), row))
                .collect(),
        }
    }

    /// What was acknowledged is there; and whatever is there is whole, acknowledged or not.
    pub(super) fn assert_keeps(&self, entries: &[Entry]) {
        for entry in entries {
            match entry {
                Entry::Started { id } => assert!(self.runs.contains_key(id), "{entry:?} is lost"),
                Entry::Appended { id, sequence } => assert!(
                    self.events.contains_key(&(id.clone(), *sequence)),
                    "{entry:?} is lost"
                ),
                Entry::Finished { id } => {
                    let row = self.runs.get(id);
                    let row = row.unwrap_or_else(|| panic!("{entry:?} is lost"));
                    assert!(!is_running(row), "{entry:?} is lost");
                }
                Entry::Failed { .. } => {}
            }
        }
        self.assert_is_whole();
    }

    /// No row differs from what its id says, and no call is stored in part.
    pub(super) fn assert_is_whole(&self) {
        for (id, row) in &self.runs {
            let script = Script::of(id);
            let expected = if is_running(row) {
                script.run
            } else {
                script.finished()
            };
            assert_eq!(*row, of_run(&expected));
        }
        for ((id, sequence), row) in &self.events {
            assert!(
                self.runs.contains_key(id),
                "event {sequence} has no run {id}"
            );
            assert_eq!(*row, of_event(&event(id, *sequence)));
        }
        let of_many: BTreeSet<&str> = self
            .events
            .keys()
            .filter(|(_, sequence)| *sequence > 0)
            .map(|(id, _)| id.as_str())
            .collect();
        for id in of_many {
            for sequence in 1..EVENTS {
                assert!(
                    self.events.contains_key(&(id.to_owned(), sequence)),
                    "only some events of one call for {id} are stored"
                );
            }
        }
    }
}

/// Whether the row of a run has no finish.
pub(super) fn is_running(row: &Value) -> bool {
    row[FINISH] == "running"
}

/// Where a row says whether its run is finished; the time of that is nobody's to know.
const FINISH: usize = 7;

fn of_run(run: &SkillRun) -> Value {
    json!([
        run.id,
        run.skill_id,
        run.caller_id,
        run.channel_id,
        run.parent_run_id,
        Value::Object(run.inputs.clone()).to_string(),
        run.started_at.timestamp_micros(),
        if run.is_running() {
            "running"
        } else {
            "finished"
        },
        run.status.as_str(),
        run.output,
        run.error,
        run.tool_calls,
        run.runtime_seconds,
        run.total_input_tokens,
        run.total_output_tokens,
        run.total_thinking_tokens,
    ])
}

fn of_event(event: &SkillRunLog) -> Value {
    json!([
        event.run_id,
        event.sequence,
        event.created_at.unwrap().timestamp_micros(),
        event.event_type,
        event.payload.to_string(),
    ])
}
