//! The task that writes what has been recorded.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select};
use runtrail_audit::{Error, History, Result, RunStats, RunStatus, SkillRun};
use tokio::time::sleep;

use crate::buffer::{Buffer, BufferedEvent, Finish, Start, TaskGuard};
use crate::keep_alive;

/// The batch that `append_logs` writes with one statement.
const MAX_EVENTS: usize = 1_000;
const MAX_BYTES: usize = 4 << 20;

/// Writes until the buffer is abandoned, or the runtime ends. Meanwhile keeps the owner of the runs
/// alive, even if a write has to wait.
pub(crate) async fn run(history: Arc<dyn History>, buffer: Arc<Buffer>, _guard: TaskGuard) {
    let writing = pin!(write_all(&*history, &buffer));
    let heartbeats = pin!(keep_alive(&*history));
    select(writing, heartbeats).await;
}

async fn write_all(history: &dyn History, buffer: &Arc<Buffer>) {
    while let Some(mut taken) = buffer.take(MAX_EVENTS, MAX_BYTES).await {
        write_starts(history, &taken.starts).await;
        taken.starts_written();
        // Events before ends: once a run is seen to be finished, its events are there.
        write_events(history, buffer, &taken.events).await;
        taken.events_written();
        let ends = taken.finishes.iter_mut().map(async |finish| {
            let result = end(history, finish).await;
            if let Some(answer) = finish.answer.take() {
                // The caller may have given up.
                let _ = answer.send(result);
            }
        });
        join_all(ends).await;
        taken.ends_written();
    }
}

/// Writes starts; retries while the store is unavailable. Of several starts of a run, the last one
/// counts.
async fn write_starts(history: &dyn History, starts: &[Start]) {
    let mut last: HashMap<&str, &SkillRun> = HashMap::new();
    for Start { run, .. } in starts {
        last.insert(&run.id, run);
    }
    let writes = last.into_values().map(async |run| {
        if let Err(err) = until_available(|| history.start_run(run)).await {
            tracing::warn!(run_id = run.id, %err, "the store refused the start of a run");
        }
    });
    join_all(writes).await;
}

/// Writes events; retries while the store is unavailable.
async fn write_events(history: &dyn History, buffer: &Buffer, buffered: &[BufferedEvent]) {
    if buffered.is_empty() {
        return;
    }
    let events: Vec<_> = buffered.iter().map(BufferedEvent::to_log).collect();
    match until_available(|| history.append_logs(&events)).await {
        Ok(()) => return,
        Err(err) if events.len() == 1 => return refused(buffer, &buffered[0], &err),
        // The error is about one of the events.
        Err(_) => {}
    }
    for (event, buffered) in events.iter().zip(buffered) {
        if let Err(err) = until_available(|| history.append_log(event)).await {
            refused(buffer, buffered, &err);
        }
    }
}

fn refused(buffer: &Buffer, event: &BufferedEvent, err: &Error) {
    let (run_id, sequence) = (event.sequence.run_id(), event.number);
    tracing::warn!(run_id, sequence, %err, "the store refused an event, which is lost");
    buffer.refused(&event.sequence);
}

/// Finishes a run. Before that, reports the events that were lost.
async fn end(history: &dyn History, finish: &Finish) -> Result<()> {
    let Finish {
        stats, sequence, ..
    } = finish;
    let run_id = sequence.run_id();
    if let Some(report) = sequence.report(None).map(|report| report.to_log())
        && let Err(err) = until_available(|| history.append_log(&report)).await
    {
        tracing::warn!(run_id, %err, "could not report lost events");
    }
    let finished = until_available(|| history.finish_run(run_id, stats)).await;
    if let Err(err) = &finished {
        tracing::warn!(run_id, %err, "the store refused the outcome of a run");
    }
    if let Err(err @ (Error::InvalidInput { .. } | Error::TooLarge { .. })) = &finished {
        // Otherwise the run would stay open, since its handle has ended.
        let replacement = replacement(stats).error(format!("the outcome was refused: {err}"));
        let mut replaced = until_available(|| history.finish_run(run_id, &replacement)).await;
        if let Err(Error::TooLarge { .. }) = replaced {
            let replacement = replacement.error("");
            replaced = until_available(|| history.finish_run(run_id, &replacement)).await;
        }
        if let Err(err) = replaced {
            tracing::warn!(run_id, %err, "could not finish a run");
        }
    }
    finished
}

/// Returns an outcome with the same numbers, as far as they are valid.
fn replacement(stats: &RunStats) -> RunStats {
    let count = |number: u64| number.min(i64::MAX.unsigned_abs());
    let seconds = Some(stats.runtime_seconds).filter(|it| it.is_finite() && *it >= 0.0);
    RunStats::new(RunStatus::ERROR)
        .tool_calls(count(stats.tool_calls))
        .runtime_seconds(seconds.unwrap_or_default())
        .input_tokens(count(stats.input_tokens))
        .output_tokens(count(stats.output_tokens))
        .thinking_tokens(count(stats.thinking_tokens))
}

/// Retries until the call succeeds, or fails because of the record itself.
async fn until_available<F: Future<Output = Result<()>>>(call: impl Fn() -> F) -> Result<()> {
    const FIRST_WAIT: Duration = Duration::from_millis(50);
    const LONGEST_WAIT: Duration = Duration::from_secs(2);

    let mut wait = FIRST_WAIT;
    loop {
        match call().await {
            Err(err) if !is_about_the_record(&err) => {
                tracing::warn!(%err, "could not write; retrying");
                sleep(wait).await;
                wait = LONGEST_WAIT.min(wait * 2);
            }
            answer => return answer,
        }
    }
}

fn is_about_the_record(err: &Error) -> bool {
    matches!(
        err,
        Error::InvalidInput { .. }
            | Error::TooLarge { .. }
            | Error::NotFound { .. }
            | Error::Conflict { .. }
            | Error::RunFinished { .. }
            | Error::RunExists { .. }
    )
}
