//! The histories to measure: runs with a realistic skew, generated from a fixed seed.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::SinkExt;
use runtrail_audit::{RunStats, RunStatus, SkillRun, SkillRunLog, Storage, new_run_id};
use runtrail_db::DatabaseOptions;
use runtrail_store::AuditStore;
use serde_json::{Value, json};

use crate::clock;

/// Every fourth run has no parent; the parent of any other is the run before it.
const CHAIN: usize = 4;
const SKILLS: usize = 100;
/// The number of runs with the rare status, and of those with the rare channel.
pub(crate) const RARE: usize = 60;
pub(crate) const RARE_STATUS: &str = "cancelled";
pub(crate) const RARE_CHANNEL: &str = "fax";

/// The file of real agent runs, outside the repository.
const AGENT_RUNS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/data/tau-bench-airline-gpt-4o.json"
);

/// Returns messages of real agents, truncated to a typical size; generated texts if the file
/// doesn't exist.
pub(crate) fn payloads() -> Result<Vec<Value>> {
    let Ok(text) = std::fs::read_to_string(AGENT_RUNS) else {
        let generated =
            |n: usize| json!({"role": "tool", "content": "made up. ".repeat(n % 40 + 5)});
        return Ok((0..200).map(generated).collect());
    };
    let trials: Vec<Value> = serde_json::from_str(&text).context(AGENT_RUNS)?;
    let messages = trials.iter().filter_map(|trial| trial["traj"].as_array());
    let payloads = messages.flatten().map(|message| {
        let content: String = message["content"]
            .as_str()
            .unwrap_or("-")
            .chars()
            .take(400)
            .collect();
        json!({"role": message["role"], "content": content})
    });
    Ok(payloads.collect())
}

/// A history of `runs` runs, each with `events` events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct History {
    pub(crate) runs: usize,
    pub(crate) events: usize,
}

impl History {
    pub(crate) fn id(&self, run: usize) -> String {
        let millis = u64::try_from(started_at(run).timestamp_millis()).unwrap_or_default();
        let mut bytes = [0; 10];
        fastrand::Rng::with_seed(run as u64).fill(&mut bytes);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes)
            .into_uuid()
            .to_string()
    }

    pub(crate) fn run(&self, number: usize) -> SkillRun {
        let mut rng = fastrand::Rng::with_seed(number as u64);
        let rare = number % (self.runs / RARE).max(1);
        let started_at = started_at(number);
        let mut run = SkillRun::new(self.id(number), skill(rng.f64()), started_at);
        run.caller_id = format!("user-{}", rng.usize(..1_000));
        run.channel_id = if rare == 1 { RARE_CHANNEL } else { "web" }.into();
        run.parent_run_id = (!number.is_multiple_of(CHAIN)).then(|| self.id(number - 1));
        if let Value::Object(inputs) =
            json!({"question": "What is the state of my order?", "n": number})
        {
            run.inputs = inputs;
        }
        run.status = match (rare, rng.usize(..100)) {
            (2, _) => RunStatus::from(RARE_STATUS),
            (_, 0) => RunStatus::DRY_RUN,
            (_, 1..4) => RunStatus::ERROR,
            _ => RunStatus::OK,
        };
        run.finished_at = Some(started_at + TimeDelta::milliseconds(rng.i64(10..60_000)));
        run.output = "Your order is on its way. ".repeat(rng.usize(1..10));
        run.tool_calls = rng.u64(..20);
        run.runtime_seconds = rng.f64() * 60.0;
        run.total_input_tokens = rng.u64(..100_000);
        run.total_output_tokens = rng.u64(..5_000);
        run
    }

    /// Returns the id of a run with the maximum number of ancestors.
    pub(crate) fn end_of_chain(&self) -> String {
        self.id(self.runs / CHAIN * CHAIN - 1)
    }

    /// Returns when the last run started.
    pub(crate) fn end(&self) -> DateTime<Utc> {
        started_at(self.runs.saturating_sub(1))
    }

    /// Returns when the first run started.
    pub(crate) fn start(&self) -> DateTime<Utc> {
        started_at(0)
    }
}

/// Returns a new run to record.
pub(crate) fn new_run() -> SkillRun {
    let mut run = SkillRun::new(new_run_id(), skill(0.5), clock::now());
    run.caller_id = "user-1".into();
    run.channel_id = "web".into();
    run
}

/// A run starts every eight seconds, so a million runs take 93 days.
fn started_at(run: usize) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(8 * run as i64)
}

pub(crate) fn skills() -> Vec<String> {
    (0..SKILLS)
        .map(|number| format!("skill-{number}"))
        .collect()
}

/// Maps a uniform share to a skill, such that few skills have most of the runs.
pub(crate) fn skill(share: f64) -> String {
    format!("skill-{}", (share.powi(3) * SKILLS as f64) as usize)
}

pub(crate) fn event(run_id: &str, number: usize, payloads: &[Value]) -> SkillRunLog {
    let payload = payloads[number % payloads.len()].clone();
    let mut event = SkillRunLog::new(run_id, number as u64, "message", payload);
    event.created_at = Some(started_at(number));
    event
}

pub(crate) fn stats() -> RunStats {
    let mut stats = RunStats::new(RunStatus::OK);
    stats.output = "Your order is on its way.".into();
    stats.tool_calls = 3;
    stats.runtime_seconds = 1.25;
    stats.input_tokens = 1_234;
    stats.output_tokens = 56;
    stats
}

/// Creates a SQLite file with Runtrail's schema and this history.
pub(crate) async fn fill_sqlite(file: &Path, history: History, payloads: &[Value]) -> Result<()> {
    let store = AuditStore::connect(url(file)).await?;
    store.initialize().await?;
    store.close().await?;
    let mut db = rusqlite::Connection::open(file)?;
    db.pragma_update(None, "synchronous", "OFF")?;
    let txn = db.transaction()?;
    {
        let mut insert_run = txn.prepare(crate::by_hand::INSERT_RUN)?;
        let mut insert_event = txn.prepare(crate::by_hand::INSERT_EVENT)?;
        for number in 0..history.runs {
            let run = history.run(number);
            crate::by_hand::insert_run(&mut insert_run, &run)?;
            for sequence in 0..history.events {
                crate::by_hand::insert_event(
                    &mut insert_event,
                    &event(&run.id, sequence, payloads),
                )?;
            }
        }
    }
    txn.commit()?;
    // Planner statistics and a checkpoint, as in a store that has been in use for a while.
    db.execute_batch("PRAGMA optimize=0x10002; PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

/// Creates a SQLite file with the Go design's schema and this history.
pub(crate) fn fill_go(file: &Path, history: History, payloads: &[Value]) -> Result<()> {
    let mut db = crate::go_design::open(file)?;
    db.pragma_update(None, "synchronous", "OFF")?;
    let txn = db.transaction()?;
    for number in 0..history.runs {
        let run = history.run(number);
        crate::go_design::save_run(&txn, &run)?;
        for sequence in 0..history.events {
            crate::go_design::save_event(&txn, &event(&run.id, sequence, payloads))?;
        }
    }
    txn.commit()?;
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

/// Fills a PostgreSQL database with Runtrail's schema and this history.
pub(crate) async fn fill_postgres(url: &str, history: History, payloads: &[Value]) -> Result<()> {
    let store = AuditStore::connect(url).await?;
    store.initialize().await?;
    store.close().await?;
    let client = crate::postgres_by_hand::connect(url).await?;
    client.batch_execute("TRUNCATE skill_runs CASCADE").await?;
    copy(
        &client,
        "skill_runs",
        crate::by_hand::RUN_COLUMNS,
        history.runs,
        |number, line| {
            let run = history.run(number);
            let finished_at = run.finished_at.map(|at| at.timestamp_micros());
            let fields = [
                run.id,
                run.skill_id,
                run.caller_id,
                run.channel_id,
                run.parent_run_id.unwrap_or_else(|| "\\N".into()),
                run.started_at.timestamp_micros().to_string(),
                finished_at.map_or_else(|| "\\N".into(), |at| at.to_string()),
                run.status.to_string(),
                run.tool_calls.to_string(),
                run.runtime_seconds.to_string(),
                run.total_input_tokens.to_string(),
                run.total_output_tokens.to_string(),
                run.total_thinking_tokens.to_string(),
                escaped(&Value::Object(run.inputs).to_string()),
                escaped(&run.output),
                escaped(&run.error),
            ];
            writeln!(line, "{}", fields.join("\t"))
        },
    )
    .await?;
    copy(
        &client,
        "skill_run_logs",
        crate::by_hand::WRITTEN_EVENT_COLUMNS,
        history.runs,
        |number, lines| {
            let id = history.id(number);
            (0..history.events).try_for_each(|sequence| {
                let event = event(&id, sequence, payloads);
                let at = started_at(sequence).timestamp_micros();
                let payload = escaped(&event.payload.to_string());
                writeln!(lines, "{id}\t{sequence}\t{at}\tmessage\t{payload}")
            })
        },
    )
    .await?;
    client.batch_execute(ADD_RESERVATIONS).await?;
    client.batch_execute("VACUUM ANALYZE").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

/// Until the first `ANALYZE`, PostgreSQL reads a new table as a whole, since it was empty when the
/// statements were planned.
const ADD_RESERVATIONS: &str = "TRUNCATE runtrail_budget_reservations, \
     runtrail_budget_charges, runtrail_budget_usage, runtrail_budgets; \
     INSERT INTO runtrail_budget_reservations (id, caller_id, skill_id, channel_id, tokens, \
     cost_micros, reserved_at, closed_at, actual_tokens, actual_cost_micros) \
     SELECT 'reservation ' || number, '', '', '', 1, 0, number, number, 1, 0 \
     FROM generate_series(1, 10000) AS number";

async fn copy(
    client: &tokio_postgres::Client,
    table: &str,
    columns: &str,
    rows: usize,
    mut line: impl FnMut(usize, &mut String) -> std::fmt::Result,
) -> Result<()> {
    let sink = client
        .copy_in(&format!("COPY {table} ({columns}) FROM STDIN"))
        .await?;
    let mut sink = std::pin::pin!(sink);
    let mut text = String::new();
    for row in 0..rows {
        line(row, &mut text)?;
        if text.len() > 1 << 20 || row + 1 == rows {
            sink.send(std::io::Cursor::new(std::mem::take(&mut text).into_bytes()))
                .await?;
        }
    }
    sink.finish().await?;
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\t', "\\t")
        .replace('\r', "\\r")
}

pub(crate) fn url(file: &Path) -> DatabaseOptions {
    DatabaseOptions::new(sqlite_url(file))
}

pub(crate) fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}?mode=rwc", file.display())
}
