//! Hand-written rusqlite on Runtrail's schema: prepared statements, write-ahead log,
//! `synchronous=FULL`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use runtrail_audit::{RunStats, RunStatus, SkillRun, SkillRunLog, Usage};
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};
use serde_json::Value;

pub(crate) const RUN_COLUMNS: &str = "id, skill_id, caller_id, channel_id, parent_run_id, \
     started_at, finished_at, status, tool_calls, runtime_seconds, total_input_tokens, \
     total_output_tokens, total_thinking_tokens, inputs, output, error";
/// The columns that a store reads.
pub(crate) const READ_COLUMNS: &str = "id, skill_id, caller_id, channel_id, parent_run_id, \
     started_at, finished_at, status, tool_calls, runtime_seconds, total_input_tokens, \
     total_output_tokens, total_thinking_tokens, inputs, output, error, owner_id, labels";
/// The columns of an event without a usage.
pub(crate) const WRITTEN_EVENT_COLUMNS: &str = "run_id, sequence, created_at, event_type, payload";
const EVENT_COLUMNS: &str = "run_id, sequence, created_at, event_type, payload, \
     duration_micros, provider, model, input_tokens, cache_read_tokens, cache_write_tokens, \
     output_tokens, thinking_tokens, cost_micros";
pub(crate) const INSERT_RUN: &str = "INSERT INTO skill_runs (id, skill_id, caller_id, channel_id, \
     parent_run_id, started_at, finished_at, status, tool_calls, runtime_seconds, \
     total_input_tokens, total_output_tokens, total_thinking_tokens, inputs, output, error) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
     ON CONFLICT (id) DO UPDATE SET skill_id = excluded.skill_id, caller_id = excluded.caller_id, \
     channel_id = excluded.channel_id, parent_run_id = excluded.parent_run_id, \
     inputs = excluded.inputs, started_at = excluded.started_at WHERE finished_at IS NULL";
pub(crate) const INSERT_EVENT: &str = "INSERT INTO skill_run_logs \
     (run_id, sequence, created_at, event_type, payload) \
     SELECT ?1, ?2, ?3, ?4, ?5 FROM skill_runs WHERE id = ?1 ON CONFLICT DO NOTHING";
const FINISH_RUN: &str = "UPDATE skill_runs SET finished_at = ?2, status = ?3, output = ?4, \
     error = ?5, tool_calls = ?6, runtime_seconds = ?7, total_input_tokens = ?8, \
     total_output_tokens = ?9, total_thinking_tokens = ?10 WHERE id = ?1 AND finished_at IS NULL";

pub(crate) fn open(file: &Path) -> Result<Connection> {
    let db = Connection::open(file)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", "ON")?;
    db.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(db)
}

pub(crate) fn insert_run(insert: &mut Statement<'_>, run: &SkillRun) -> Result<()> {
    insert.execute(params![
        run.id,
        run.skill_id,
        run.caller_id,
        run.channel_id,
        run.parent_run_id,
        run.started_at.timestamp_micros(),
        run.finished_at.map(|at| at.timestamp_micros()),
        run.status.as_str(),
        run.tool_calls as i64,
        run.runtime_seconds,
        run.total_input_tokens as i64,
        run.total_output_tokens as i64,
        run.total_thinking_tokens as i64,
        serde_json::to_string(&run.inputs)?,
        run.output,
        run.error,
    ])?;
    Ok(())
}

pub(crate) fn insert_event(insert: &mut Statement<'_>, event: &SkillRunLog) -> Result<()> {
    insert.execute(params![
        event.run_id,
        event.sequence as i64,
        event.created_at.unwrap_or_default().timestamp_micros(),
        event.event_type,
        serde_json::to_string(&event.payload)?,
    ])?;
    Ok(())
}

pub(crate) fn start(db: &Connection, run: &SkillRun) -> Result<()> {
    let mut insert = db.prepare_cached(INSERT_RUN)?;
    insert_run(&mut insert, run)
}

pub(crate) fn append(db: &Connection, event: &SkillRunLog) -> Result<()> {
    let mut insert = db.prepare_cached(INSERT_EVENT)?;
    insert_event(&mut insert, event)
}

pub(crate) fn finish(db: &Connection, run_id: &str, stats: &RunStats) -> Result<()> {
    db.prepare_cached(FINISH_RUN)?.execute(params![
        run_id,
        crate::clock::now().timestamp_micros(),
        stats.status.as_str(),
        stats.output,
        stats.error,
        stats.tool_calls as i64,
        stats.runtime_seconds,
        stats.input_tokens as i64,
        stats.output_tokens as i64,
        stats.thinking_tokens as i64,
    ])?;
    Ok(())
}

pub(crate) fn get_run(db: &Connection, id: &str) -> Result<Option<SkillRun>> {
    let sql = format!("SELECT {READ_COLUMNS} FROM skill_runs WHERE id = ?1");
    Ok(db
        .prepare_cached(&sql)?
        .query_row([id], read_run)
        .optional()?)
}

pub(crate) fn list_by_skill(db: &Connection, skill_id: &str, limit: i64) -> Result<Vec<SkillRun>> {
    let sql = format!(
        "SELECT {READ_COLUMNS} FROM skill_runs WHERE skill_id = ?1 AND status <> 'dry_run' \
         ORDER BY started_at DESC, id DESC LIMIT ?2"
    );
    let mut query = db.prepare_cached(&sql)?;
    let runs = query.query_map(params![skill_id, limit], read_run)?;
    Ok(runs.collect::<rusqlite::Result<_>>()?)
}

/// Lists the newest runs, without their long texts.
pub(crate) fn summaries(db: &Connection, limit: i64) -> Result<Vec<SkillRun>> {
    let sql = "SELECT id, skill_id, caller_id, channel_id, parent_run_id, started_at, finished_at, \
         status, tool_calls, runtime_seconds, total_input_tokens, total_output_tokens, \
         total_thinking_tokens FROM skill_runs WHERE status <> 'dry_run' \
         ORDER BY started_at DESC, id DESC LIMIT ?1";
    let mut query = db.prepare_cached(sql)?;
    let runs = query.query_map([limit], summary)?;
    Ok(runs.collect::<rusqlite::Result<_>>()?)
}

/// Lists a run and its ancestors, in this order.
pub(crate) fn chain(db: &Connection, id: &str) -> Result<Vec<SkillRun>> {
    let sql = format!(
        "WITH RECURSIVE chain (id, parent) AS (
             SELECT id, parent_run_id FROM skill_runs WHERE id = ?1
             UNION SELECT skill_runs.id, parent_run_id FROM skill_runs
             JOIN chain ON skill_runs.id = chain.parent
         ) SELECT {READ_COLUMNS} FROM skill_runs WHERE id IN (SELECT id FROM chain)"
    );
    let mut query = db.prepare_cached(&sql)?;
    let runs = query.query_map([id], read_run)?;
    let mut by_id = HashMap::new();
    for run in runs {
        let run = run?;
        by_id.insert(run.id.clone(), run);
    }
    let mut chain = Vec::with_capacity(by_id.len());
    let mut next = Some(id.to_owned());
    while let Some(run) = next.and_then(|id| by_id.remove(&id)) {
        next = run.parent_run_id.clone();
        chain.push(run);
    }
    Ok(chain)
}

pub(crate) fn events(db: &Connection, run_id: &str) -> Result<Vec<SkillRunLog>> {
    let sql =
        format!("SELECT {EVENT_COLUMNS} FROM skill_run_logs WHERE run_id = ?1 ORDER BY sequence");
    let mut query = db.prepare_cached(&sql)?;
    let events = query.query_map([run_id], |row| {
        let payload: String = row.get(4)?;
        let mut event = SkillRunLog::new(
            row.get::<_, String>(0)?,
            row.get::<_, i64>(1)?.unsigned_abs(),
            row.get::<_, String>(3)?,
            serde_json::from_str(&payload).unwrap_or_default(),
        );
        event.created_at = Some(time(row.get(2)?));
        let number = |place| -> rusqlite::Result<_> {
            let number: Option<i64> = row.get(place)?;
            Ok(number.map(i64::unsigned_abs))
        };
        event.duration = number(5)?.map(Duration::from_micros);
        let mut usage = Usage::new();
        usage.provider = row.get(6)?;
        usage.model = row.get(7)?;
        usage.input_tokens = number(8)?;
        usage.cache_read_tokens = number(9)?;
        usage.cache_write_tokens = number(10)?;
        usage.output_tokens = number(11)?;
        usage.thinking_tokens = number(12)?;
        usage.cost_micros = number(13)?;
        event.usage = Some(usage).filter(|usage| !usage.is_empty());
        Ok(event)
    })?;
    Ok(events.collect::<rusqlite::Result<_>>()?)
}

/// Counts all runs of a skill, in an index without the status.
pub(crate) fn count_by_skill(db: &Connection, skill_id: &str) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM skill_runs WHERE skill_id = ?1";
    Ok(db
        .prepare_cached(sql)?
        .query_row([skill_id], |row| row.get(0))?)
}

pub(crate) fn count(db: &Connection) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM skill_runs WHERE status <> 'dry_run'";
    Ok(db.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

pub(crate) fn last_run_grouped(db: &Connection, skills: &[String]) -> Result<usize> {
    let sql = format!(
        "SELECT skill_id, MAX(started_at) FROM skill_runs WHERE skill_id IN ({}) GROUP BY skill_id",
        vec!["?"; skills.len()].join(",")
    );
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map(rusqlite::params_from_iter(skills), |row| {
        row.get::<_, i64>(1)
    })?;
    Ok(rows.count())
}

pub(crate) fn run(row: &Row<'_>) -> rusqlite::Result<SkillRun> {
    let mut run = summary(row)?;
    let inputs: String = row.get(13)?;
    run.inputs = object(&inputs);
    run.output = row.get(14)?;
    run.error = row.get(15)?;
    Ok(run)
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<SkillRun> {
    let mut run = run(row)?;
    run.owner_id = row.get(16)?;
    run.labels = labels(row.get::<_, Option<String>>(17)?.as_deref());
    Ok(run)
}

pub(crate) fn labels(text: Option<&str>) -> BTreeMap<String, String> {
    let labels = text.and_then(|text| serde_json::from_str(text).ok());
    labels.unwrap_or_default()
}

fn summary(row: &Row<'_>) -> rusqlite::Result<SkillRun> {
    let mut run = SkillRun::new(
        row.get::<_, String>(0)?,
        row.get::<_, String>(1)?,
        time(row.get(5)?),
    );
    run.caller_id = row.get(2)?;
    run.channel_id = row.get(3)?;
    run.parent_run_id = row.get(4)?;
    run.finished_at = row.get::<_, Option<i64>>(6)?.map(time);
    run.status = RunStatus::from(row.get::<_, String>(7)?);
    run.tool_calls = row.get::<_, i64>(8)?.unsigned_abs();
    run.runtime_seconds = row.get(9)?;
    run.total_input_tokens = row.get::<_, i64>(10)?.unsigned_abs();
    run.total_output_tokens = row.get::<_, i64>(11)?.unsigned_abs();
    run.total_thinking_tokens = row.get::<_, i64>(12)?.unsigned_abs();
    Ok(run)
}

pub(crate) fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

pub(crate) fn object(text: &str) -> serde_json::Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}
