use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use runtrail_audit::{Error, Result, RunStats, RunStatus, SkillRun, Usage};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Timeout, timeout};

use crate::buffer::{Finish, Sequence};
use crate::{Event, Recorder, StartRun};

/// A run that is being recorded. Clones refer to the same run; give one to each task.
///
/// Recording an event doesn't wait. It numbers the event, and queues it in the recorder's
/// [buffer](Recorder).
///
/// If the last clone is dropped before [`finish`](Self::finish), the run ends with the status
/// `error` and an error message that begins with `dropped`.
#[derive(Clone)]
pub struct RunHandle {
    run: Arc<Run>,
}

struct Run {
    recorder: Recorder,
    /// For its children.
    caller_id: String,
    channel_id: String,
    started: Instant,
    runtime: Option<Handle>,
    sequence: Arc<Sequence>,
    totals: Totals,
    is_finished: AtomicBool,
}

/// Totals over the recorded events, including lost ones.
#[derive(Default)]
struct Totals {
    tool_calls: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    thinking_tokens: AtomicU64,
}

impl RunHandle {
    /// Without a runtime, [`scope_within`](Self::scope_within) has to be called inside one.
    pub(crate) fn new(recorder: Recorder, run: &SkillRun, runtime: Option<Handle>) -> Self {
        Self {
            run: Arc::new(Run {
                recorder,
                caller_id: run.caller_id.clone(),
                channel_id: run.channel_id.clone(),
                started: Instant::now(),
                runtime,
                sequence: Sequence::new(run.id.clone()),
                totals: Totals::default(),
                is_finished: AtomicBool::new(false),
            }),
        }
    }

    /// Returns the id of the run.
    pub fn id(&self) -> &str {
        self.run.sequence.run_id()
    }

    /// Records an event of any type.
    pub fn log(&self, event_type: impl Into<String>, payload: Value) {
        self.record(Event::new(event_type, payload));
    }

    /// Records a model call. To add a payload or a duration, pass [`Event::model_call`] to
    /// [`record`](Self::record).
    pub fn model_call(&self, usage: Usage) {
        self.record(Event::model_call(usage));
    }

    /// Records a tool call. To add a duration, pass [`Event::tool_call`] to
    /// [`record`](Self::record).
    pub fn tool_call(&self, tool: impl Into<String>, arguments: Value) {
        self.record(Event::tool_call(tool, arguments));
    }

    /// Records an event.
    ///
    /// An event that the store refuses, such as one with a payload above the store's limits, is
    /// counted as lost and reported through `tracing`; see [`Recorder`].
    pub fn record(&self, event: Event) {
        let Run {
            recorder,
            runtime,
            sequence,
            totals,
            ..
        } = &*self.run;
        totals.add(&event);
        let now = recorder.clock.now();
        if !recorder.buffer().push_event(event, now, sequence) {
            recorder.ensure_task(runtime.as_ref());
        }
    }

    /// Prepares a run that this one spawns, for the same caller and channel. Awaiting the returned
    /// value stores it.
    pub fn child(&self, skill_id: impl Into<String>) -> StartRun {
        let Run {
            recorder,
            caller_id,
            channel_id,
            ..
        } = &*self.run;
        let child = recorder.start(skill_id).parent(self.id());
        child
            .caller(caller_id.as_str())
            .channel(channel_id.as_str())
    }

    /// Queues the end of the run behind its events, and waits until it is written.
    ///
    /// For a count or a `runtime_seconds` of 0 in `stats`, the handle fills in its own value: the
    /// number of tool calls, the sums of the tokens, and the time since the start was stored.
    ///
    /// Once the future has been polled, dropping it doesn't cancel the finish. The future waits
    /// while the store is unavailable; `tokio::time::timeout` limits the wait.
    ///
    /// # Errors
    ///
    /// [`RunFinished`](Error::RunFinished) if this handle, a clone of it or another program has
    /// already finished the run. [`InvalidInput`](Error::InvalidInput) and
    /// [`TooLarge`](Error::TooLarge) if the store refuses the outcome; the run then ends as `error`
    /// with this reason. [`NotFound`](Error::NotFound) if the run has been deleted.
    pub async fn finish(&self, stats: RunStats) -> Result<()> {
        let (sender, answer) = oneshot::channel();
        if !self.run.finish(stats, Some(sender)) {
            return Err(Error::RunFinished {
                run_id: self.id().to_owned(),
            });
        }
        // The sender is dropped only with the buffer, which this handle keeps alive.
        self.run.recorder.with_task(answer).await.unwrap_or(Ok(()))
    }

    /// Limits a future's time. Outside a runtime, the timers are those of the runtime in which the
    /// run was started.
    pub(crate) fn timeout<F: Future>(&self, limit: Duration, future: F) -> Timeout<F> {
        let is_outside = Handle::try_current().is_err();
        let runtime = self.run.runtime.as_ref().filter(|_| is_outside);
        let _entered = runtime.map(Handle::enter);
        timeout(limit, future)
    }

    /// Queues the start of the run without waiting.
    #[cfg(feature = "tracing")]
    pub(crate) fn start_later(&self, start: SkillRun) {
        self.run
            .recorder
            .buffer()
            .push_start(start, &self.run.sequence);
    }

    /// Starts the writing task unless it is running.
    #[cfg(feature = "tracing")]
    pub(crate) fn ensure_task(&self) {
        let Run {
            recorder, runtime, ..
        } = &*self.run;
        recorder.ensure_task(runtime.as_ref());
    }

    /// Like [`finish`](Self::finish), but doesn't wait until the end is written;
    /// [`Recorder::shutdown`] does. If the run has already ended, nothing happens.
    ///
    /// If the [buffer](Recorder) has no room for the output, the run ends without one, and the
    /// output counts as a lost event.
    ///
    /// ```
    /// # use runtrail_audit::{RunStats, RunStatus};
    /// # use runtrail_record::RunHandle;
    /// # async fn summarise() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn example(run: RunHandle) -> Result<(), std::io::Error> {
    /// // An error, a panic or cancellation still ends the run accordingly.
    /// run.scope(async {
    ///     let text = summarise().await?;
    ///     run.finish_later(RunStats::new(RunStatus::OK).output(text));
    ///     Ok::<_, std::io::Error>(())
    /// })
    /// .await
    /// # }
    /// ```
    pub fn finish_later(&self, stats: RunStats) {
        self.run.finish(stats, None);
    }
}

impl Run {
    /// Queues the end of the run; returns `false` if it has already ended.
    fn finish(&self, mut stats: RunStats, answer: Option<oneshot::Sender<Result<()>>>) -> bool {
        if self.is_finished.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.totals.complete(&mut stats);
        if stats.runtime_seconds == 0.0 {
            stats.runtime_seconds = self.started.elapsed().as_secs_f64();
        }
        self.recorder.buffer().push_finish(Finish {
            stats,
            sequence: Arc::clone(&self.sequence),
            answer,
            bytes: 0,
        });
        self.recorder.ensure_task(self.runtime.as_ref());
        true
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let error = match thread::panicking() {
            true => "dropped during a panic",
            false => "dropped without being finished",
        };
        self.finish(RunStats::new(RunStatus::ERROR).error(error), None);
    }
}

impl Totals {
    fn add(&self, event: &Event) {
        let add = |total: &AtomicU64, number: u64| {
            if number == 0 {
                return;
            }
            let limit = i64::MAX as u64;
            let sum = |total: u64| Some(total.saturating_add(number).min(limit));
            // The closure never returns `None`, so this always succeeds.
            let _ = total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
        };
        if event.is_tool_call {
            add(&self.tool_calls, 1);
        }
        if let Some(usage) = &event.usage {
            add(&self.input_tokens, usage.input_tokens.unwrap_or_default());
            add(&self.output_tokens, usage.output_tokens.unwrap_or_default());
            add(
                &self.thinking_tokens,
                usage.thinking_tokens.unwrap_or_default(),
            );
        }
    }

    /// Replaces the counts that are 0.
    fn complete(&self, stats: &mut RunStats) {
        let pairs = [
            (&mut stats.tool_calls, &self.tool_calls),
            (&mut stats.input_tokens, &self.input_tokens),
            (&mut stats.output_tokens, &self.output_tokens),
            (&mut stats.thinking_tokens, &self.thinking_tokens),
        ];
        for (count, total) in pairs {
            if *count == 0 {
                *count = total.load(Ordering::Relaxed);
            }
        }
    }
}

impl fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
