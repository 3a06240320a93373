//! The Go design that Runtrail follows: its tables and four indexes, with one statement per call,
//! prepared each time as `database/sql` does.

use std::path::Path;

use anyhow::Result;
use chrono::{DateTime, Utc};
use runtrail_audit::{RunStats, RunStatus, SkillRun, SkillRunLog};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::by_hand::object;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS skill_runs (
        id TEXT PRIMARY KEY, skill_id TEXT NOT NULL, caller_id TEXT NOT NULL, \
        channel_id TEXT NOT NULL,
        parent_run_id TEXT NOT NULL DEFAULT '', inputs TEXT NOT NULL, started_at INTEGER NOT NULL,
        finished_at INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL, \
        output TEXT NOT NULL DEFAULT '',
        error TEXT NOT NULL DEFAULT '', tool_calls INTEGER NOT NULL DEFAULT 0,
        runtime_seconds REAL NOT NULL DEFAULT 0, total_input_tokens INTEGER NOT NULL DEFAULT 0,
        total_output_tokens INTEGER NOT NULL DEFAULT 0, \
        total_thinking_tokens INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS runs_by_skill ON skill_runs (skill_id, started_at);
    CREATE INDEX IF NOT EXISTS runs_by_caller ON skill_runs (caller_id, started_at);
    CREATE INDEX IF NOT EXISTS runs_by_parent ON skill_runs (parent_run_id);
    CREATE INDEX IF NOT EXISTS runs_by_start ON skill_runs (started_at);
    CREATE TABLE IF NOT EXISTS skill_run_logs (
        run_id TEXT NOT NULL, seq INTEGER NOT NULL, event_type TEXT NOT NULL, payload TEXT NOT NULL,
        created_at INTEGER NOT NULL, PRIMARY KEY (run_id, seq));";

const COLUMNS: &str = "id, skill_id, caller_id, channel_id, parent_run_id, inputs, started_at, \
     finished_at, status, output, error, tool_calls, runtime_seconds, total_input_tokens, \
     total_output_tokens, total_thinking_tokens";

pub(crate) fn open(file: &Path) -> Result<Connection> {
    let db = crate::by_hand::open(file)?;
    db.execute_batch(SCHEMA)?;
    Ok(db)
}

pub(crate) fn save_run(db: &Connection, run: &SkillRun) -> Result<()> {
    let sql = format!(
        "INSERT OR REPLACE INTO skill_runs ({COLUMNS}) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    );
    db.prepare(&sql)?.execute(params![
        run.id,
        run.skill_id,
        run.caller_id,
        run.channel_id,
        run.parent_run_id.as_deref().unwrap_or_default(),
        serde_json::to_string(&run.inputs)?,
        run.started_at.timestamp(),
        run.finished_at.map_or(0, |at| at.timestamp()),
        run.status.as_str(),
        run.output,
        run.error,
        run.tool_calls as i64,
        run.runtime_seconds,
        run.total_input_tokens as i64,
        run.total_output_tokens as i64,
        run.total_thinking_tokens as i64,
    ])?;
    Ok(())
}

pub(crate) fn save_event(db: &Connection, event: &SkillRunLog) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO skill_run_logs \
               (run_id, seq, event_type, payload, created_at) \
               VALUES (?, ?, ?, ?, ?)";
    db.prepare(sql)?.execute(params![
        event.run_id,
        event.sequence as i64,
        event.event_type,
        serde_json::to_string(&event.payload)?,
        event.created_at.unwrap_or_default().timestamp(),
    ])?;
    Ok(())
}

pub(crate) fn finish(db: &Connection, run_id: &str, stats: &RunStats) -> Result<()> {
    let sql = "UPDATE skill_runs SET finished_at = ?, status = ?, output = ?, error = ?, \
               tool_calls = ?, runtime_seconds = ?, total_input_tokens = ?, \
               total_output_tokens = ?, total_thinking_tokens = ? \
               WHERE id = ?";
    db.prepare(sql)?.execute(params![
        crate::clock::now().timestamp(),
        stats.status.as_str(),
        stats.output,
        stats.error,
        stats.tool_calls as i64,
        stats.runtime_seconds,
        stats.input_tokens as i64,
        stats.output_tokens as i64,
        stats.thinking_tokens as i64,
        run_id,
    ])?;
    Ok(())
}

pub(crate) fn get_run(db: &Connection, id: &str) -> Result<Option<SkillRun>> {
    let sql = format!("SELECT {COLUMNS} FROM skill_runs WHERE id = ?");
    Ok(db.prepare(&sql)?.query_row([id], run).optional()?)
}

pub(crate) fn list_by_skill(db: &Connection, skill_id: &str, limit: i64) -> Result<Vec<SkillRun>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM skill_runs WHERE skill_id = ? AND status <> 'dry_run' \
         ORDER BY started_at DESC LIMIT ?"
    );
    let mut query = db.prepare(&sql)?;
    let runs = query.query_map(params![skill_id, limit], run)?;
    Ok(runs.collect::<rusqlite::Result<_>>()?)
}

fn run(row: &Row<'_>) -> rusqlite::Result<SkillRun> {
    let seconds = |at: i64| DateTime::<Utc>::from_timestamp(at, 0).unwrap_or_default();
    let inputs: String = row.get(5)?;
    let finished_at: i64 = row.get(7)?;
    let parent_run_id: String = row.get(4)?;
    let mut run = SkillRun::new(
        row.get::<_, String>(0)?,
        row.get::<_, String>(1)?,
        seconds(row.get(6)?),
    );
    run.caller_id = row.get(2)?;
    run.channel_id = row.get(3)?;
    run.parent_run_id = Some(parent_run_id).filter(|id| !id.is_empty());
    run.inputs = object(&inputs);
    run.finished_at = (finished_at != 0).then(|| seconds(finished_at));
    run.status = RunStatus::from(row.get::<_, String>(8)?);
    run.output = row.get(9)?;
    run.error = row.get(10)?;
    run.tool_calls = row.get::<_, i64>(11)?.unsigned_abs();
    run.runtime_seconds = row.get(12)?;
    run.total_input_tokens = row.get::<_, i64>(13)?.unsigned_abs();
    run.total_output_tokens = row.get::<_, i64>(14)?.unsigned_abs();
    run.total_thinking_tokens = row.get::<_, i64>(15)?.unsigned_abs();
    Ok(run)
}
