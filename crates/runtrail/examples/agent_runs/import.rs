//! Converts recorded conversations to runs: a host in miniature.
//!
//! The recordings contain no times, token counts or statuses. They are derived:
//!
//! - times: one second per message, from a fixed start; each task gets its own hour;
//! - status: `ok` for a reward of 1, otherwise `error`;
//! - tokens: zero, since the counts are unknown.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use runtrail::{RunStats, RunStatus, SkillRun, SkillRunLog, Storage};
use serde_json::{Map, Value, json};

/// The skill of a trial.
pub(crate) const SKILL: &str = "airline support";
/// The skill of the run that represents a task; its children are the trials.
pub(crate) const TASK_SKILL: &str = "airline benchmark";

/// The number of records that were stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Imported {
    /// Parent runs.
    pub(crate) tasks: usize,
    /// Child runs.
    pub(crate) trials: usize,
    /// Events of child runs.
    pub(crate) events: usize,
}

/// Records every trial of the file as a run, with one parent run per task and one event per
/// message.
pub(crate) async fn import(store: &impl Storage, text: &str) -> anyhow::Result<Imported> {
    let trials: Vec<Value> = serde_json::from_str(text).context("not a JSON array")?;
    let mut by_task: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for trial in &trials {
        by_task
            .entry(number(trial, "task_id")?)
            .or_default()
            .push(trial);
    }

    let mut imported = Imported::default();
    for (task, trials) in by_task {
        let begin = start_of(task);
        let parent = SkillRun::new(task_run_id(task), TASK_SKILL, begin)
            .channel("benchmark")
            .inputs(fields([("task_id", json!(task))]));
        store.start_run(&parent).await?;
        imported.tasks += 1;

        let mut all_calls = 0;
        for trial in trials {
            let run = run_of(trial, &parent)?;
            store.start_run(&run).await?;
            let events = events_of(trial, &run)?;
            for event in &events {
                store.append_log(event).await?;
            }
            let stats = stats_of(trial, &events)?;
            store.finish_run(&run.id, &stats).await?;
            all_calls += stats.tool_calls;
            imported.trials += 1;
            imported.events += events.len();
        }
        let stats = RunStats::new(RunStatus::OK).tool_calls(all_calls);
        store.finish_run(&parent.id, &stats).await?;
    }
    Ok(imported)
}

/// Returns the run id of a task.
pub(crate) fn task_run_id(task: u64) -> String {
    format!("task {task:03}")
}

/// Returns the run id of one trial of a task.
pub(crate) fn trial_run_id(task: u64, trial: u64) -> String {
    format!("task {task:03} trial {trial}")
}

fn run_of(trial: &Value, parent: &SkillRun) -> anyhow::Result<SkillRun> {
    let (task, number) = (number(trial, "task_id")?, number(trial, "trial")?);
    let request = &trial["info"]["task"];
    Ok(
        SkillRun::new(trial_run_id(task, number), SKILL, parent.started_at)
            .caller(request["user_id"].as_str().unwrap_or_default().to_owned())
            .channel(parent.channel_id.clone())
            .parent(parent.id.clone())
            .inputs(fields([("instruction", request["instruction"].clone())])),
    )
}

fn events_of(trial: &Value, run: &SkillRun) -> anyhow::Result<Vec<SkillRunLog>> {
    messages(trial)?
        .iter()
        .zip(0_u32..)
        .map(|(message, second)| {
            let role = message["role"]
                .as_str()
                .context("a message without a role")?;
            Ok(
                SkillRunLog::new(run.id.as_str(), second.into(), role, message.clone())
                    .created_at(run.started_at + TimeDelta::seconds(second.into())),
            )
        })
        .collect()
}

fn stats_of(trial: &Value, events: &[SkillRunLog]) -> anyhow::Result<RunStats> {
    let reward = trial["reward"]
        .as_f64()
        .context("a trial without a reward")?;
    let tool_calls = events
        .iter()
        .filter_map(|event| event.payload["tool_calls"].as_array());
    let answer = events
        .iter()
        .rev()
        .find(|event| event.event_type == "assistant");
    let answer = answer.and_then(|event| event.payload["content"].as_str());
    Ok(RunStats::new(if reward >= 1.0 {
        RunStatus::OK
    } else {
        RunStatus::ERROR
    })
    .output(answer.unwrap_or_default().to_owned())
    .tool_calls(tool_calls.map(|calls| calls.len() as u64).sum())
    .runtime_seconds(events.len() as f64))
}

fn messages(trial: &Value) -> anyhow::Result<&Vec<Value>> {
    let messages = trial["traj"]
        .as_array()
        .context("a trial without messages")?;
    ensure!(!messages.is_empty(), "a trial without messages");
    Ok(messages)
}

fn number(trial: &Value, field: &str) -> anyhow::Result<u64> {
    trial[field]
        .as_u64()
        .with_context(|| format!("a trial without {field}"))
}

fn start_of(task: u64) -> DateTime<Utc> {
    let hours = i64::try_from(task).unwrap_or_default();
    DateTime::UNIX_EPOCH + TimeDelta::days(19_858) + TimeDelta::hours(hours)
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}
