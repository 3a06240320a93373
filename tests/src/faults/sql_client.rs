//! Reads and checks stored rows with `sqlite3` and `psql`, independently of the library.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use runtrail_audit::{SkillRun, SkillRunLog};
use serde_json::{Value, json};

use super::ledger::Entry;
use super::script::{EVENTS, Script, event};
use crate::fixture::{Spawned, eventually};

/// Returns the command for `sqlite3` or `psql` on this database; it reads SQL from stdin.
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

/// Runs SQL, and returns the lines of its output.
pub(super) fn run_sql(url: &str, sql: &str) -> Vec<String> {
    let mut client = Spawned::new(client(url).stdin(Stdio::piped()).stdout(Stdio::piped()));
    client.write(&format!("{sql};\n"));
    client.close_stdin();
    let answer = client.wait_for_success();
    answer.lines().map(str::to_owned).collect()
}

/// Counts the rows of a table, which may be followed by a `WHERE` clause.
pub(super) fn count(url: &str, table: &str) -> u64 {
    run_sql(url, &format!("SELECT count(*) FROM {table}"))[0]
        .parse()
        .unwrap()
}

/// Ends every connection to this PostgreSQL database, as a restart of the server does.
pub(super) fn end_connections(url: &str) {
    run_sql(
        url,
        // Waits up to 5 s for each of them to end.
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
         WHERE datname = current_database() AND backend_type = 'client backend' \
         AND pid <> pg_backend_pid()",
    );
}

/// Waits until a PostgreSQL server has executed the statements that killed processes had sent.
pub(super) fn settle(url: &str) {
    let busy = "pg_stat_activity WHERE datname = current_database() \
         AND backend_type = 'client backend' \
         AND state <> 'idle' AND pid <> pg_backend_pid()";
    if !url.starts_with("sqlite:") {
        eventually(|| (count(url, busy) == 0).then_some(()));
    }
}

/// Asserts that every event has a run.
#[track_caller]
pub(super) fn assert_no_orphans(url: &str) {
    let orphans = "skill_run_logs WHERE run_id NOT IN (SELECT id FROM skill_runs)";
    assert_eq!(count(url, orphans), 0);
}

/// Asserts that the index has exactly the labels of the stored runs.
#[track_caller]
fn assert_labels_are_indexed(url: &str) {
    let labels = match url.starts_with("sqlite:") {
        true => "json_each(skill_runs.labels)",
        false => "jsonb_each_text(skill_runs.labels::jsonb)",
    };
    let labels = format!(
        "SELECT label.key, label.value, started_at, skill_runs.id \
        FROM skill_runs, {labels} AS label"
    );
    let indexed = "SELECT key, value, run_started_at, run_id FROM runtrail_run_labels";
    for (left, right) in [(labels.as_str(), indexed), (indexed, &labels)] {
        assert_eq!(
            count(url, &format!("({left} EXCEPT {right}) AS difference")),
            0
        );
    }
}

/// All stored rows of a database, as another program reads them.
pub(super) struct History {
    pub(super) runs: BTreeMap<String, Value>,
    pub(super) events: BTreeMap<(String, u64), Value>,
}

impl History {
    /// Reads all rows, after SQLite's integrity checks.
    pub(super) fn read(url: &str) -> Self {
        let is_sqlite = url.starts_with("sqlite:");
        let array = if is_sqlite {
            assert_eq!(run_sql(url, "PRAGMA integrity_check"), ["ok"]);
            assert_eq!(run_sql(url, "PRAGMA foreign_key_check"), [""; 0]);
            "json_array"
        } else {
            "json_build_array"
        };
        let rows = |columns: &str, table: &str| -> Vec<Value> {
            let lines = run_sql(url, &format!("SELECT {array}({columns}) FROM {table}"));
            lines
                .iter()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        assert_labels_are_indexed(url);
        let text = |value: &Value| value.as_str().unwrap().to_owned();

        let runs = rows(
            "id, skill_id, caller_id, channel_id, parent_run_id, inputs, started_at, \
             CASE WHEN finished_at IS NULL THEN 'running' ELSE 'finished' END, status, output, \
             error, tool_calls, runtime_seconds, total_input_tokens, total_output_tokens, \
             total_thinking_tokens, labels",
            "skill_runs",
        );
        let events = rows(
            "run_id, sequence, created_at, event_type, payload, duration_micros, provider, model, \
             input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, thinking_tokens, \
             cost_micros",
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

    /// Asserts that every acknowledged write is stored, and that every stored row is whole,
    /// acknowledged or not.
    pub(super) fn assert_stores(&self, entries: &[Entry]) {
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

    /// Asserts that each row matches the record that follows from its id, and that no call is
    /// stored in part.
    pub(super) fn assert_is_whole(&self) {
        for (id, row) in &self.runs {
            let script = Script::for_run(id);
            let expected = if is_running(row) {
                script.run
            } else {
                script.finished()
            };
            assert_eq!(*row, run_row(&expected));
        }
        for ((id, sequence), row) in &self.events {
            assert!(
                self.runs.contains_key(id),
                "event {sequence} has no run {id}"
            );
            assert_eq!(*row, event_row(&event(id, *sequence)));
        }
        let with_batch: BTreeSet<&str> = self
            .events
            .keys()
            .filter(|(_, sequence)| *sequence > 0)
            .map(|(id, _)| id.as_str())
            .collect();
        for id in with_batch {
            for sequence in 1..EVENTS {
                assert!(
                    self.events.contains_key(&(id.to_owned(), sequence)),
                    "only some events of one call for {id} are stored"
                );
            }
        }
    }
}

/// Whether a run has not finished.
pub(super) fn is_running(row: &Value) -> bool {
    row[FINISH] == "running"
}

/// The column that says whether the run is finished. The finish time is not predictable, so it is
/// not compared.
const FINISH: usize = 7;

fn run_row(run: &SkillRun) -> Value {
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
        (!run.labels.is_empty()).then(|| serde_json::to_string(&run.labels).unwrap()),
    ])
}

fn event_row(event: &SkillRunLog) -> Value {
    let usage = event.usage.clone().unwrap_or_default();
    json!([
        event.run_id,
        event.sequence,
        event.created_at.unwrap().timestamp_micros(),
        event.event_type,
        event.payload.to_string(),
        event.duration.map(|duration| duration.as_micros() as u64),
        usage.provider,
        usage.model,
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.thinking_tokens,
        usage.cost_micros,
    ])
}
