use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use runtrail_audit::{Clock, History, SystemClock};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::StartRun;
use crate::buffer::Buffer;
use crate::writer;

/// Starts runs and records their events. Clones share the buffer and the task that writes.
///
/// The task runs on the runtime of the first start. If that runtime ends, the next start, `finish`
/// or `shutdown` continues on its own runtime with what is left in the buffer.
///
/// When the last recorder and the last handle are dropped, the task writes the rest and ends, if
/// its runtime still runs.
///
/// **Memory.** By default, the buffer holds up to 10,000 events with payloads of up to 64 MiB.
/// While the store is unavailable, for whatever reason, the task retries. While the buffer is full,
/// further events are lost. Before the next event or the end of the run, an event of type `dropped`
/// with the payload `{"events": …}` states how many.
///
/// One record that the database keeps failing to write, for example because of a host's trigger or
/// a locked row, delays all others of the recorder.
///
/// **Ends of runs** are never lost while the process and a runtime live. If the store refuses an
/// outcome, such as one with a text above its limits, the run ends as `error` with the reason.
///
/// ```
/// # use std::sync::Arc;
/// # use runtrail_audit::{History, RunStats, RunStatus, Usage};
/// # use runtrail_record::{Event, Recorder};
/// # use serde_json::json;
/// # async fn example(history: Arc<dyn History>) -> Result<(), Box<dyn std::error::Error>> {
/// let recorder = Recorder::new(history);
/// let run = recorder.start("summarise").caller("alice").input("topic", json!("tides")).await?;
/// run.tool_call("search", json!({"query": "tides"}));
/// run.record(Event::model_call(Usage::new().model("claude-sonnet-4-5").input_tokens(1_200)));
/// run.finish(RunStats::new(RunStatus::OK).output("In short: yes.")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recorder {
    pub(crate) history: Arc<dyn History>,
    pub(crate) clock: Arc<dyn Clock>,
    owner: Arc<BufferOwner>,
}

/// The buffer as all recorders and handles share it. Once the last of them is dropped, the task ends
/// when everything is written.
struct BufferOwner {
    buffer: Arc<Buffer>,
}

impl BufferOwner {
    fn new(events: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            buffer: Arc::new(Buffer::new(events, bytes)),
        })
    }
}

impl Drop for BufferOwner {
    fn drop(&mut self) {
        self.buffer.abandon();
    }
}

/// What isn't written when [`Recorder::shutdown`] returns, and what was lost before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Unwritten {
    /// Starts of runs that aren't written yet. Only the tracing layer queues starts.
    pub starts: u64,
    /// Events that aren't written yet.
    pub events: u64,
    /// Runs whose end isn't written yet.
    pub runs: u64,
    /// Events, inputs and outputs that were lost since the recorder was created: the buffer was
    /// full or closed, or the store refused them.
    pub lost: u64,
}

impl Recorder {
    /// The number of events that the buffer holds by default.
    const MAX_EVENTS: usize = 10_000;
    /// The estimated size of their payloads in bytes.
    const MAX_BYTES: usize = 64 << 20;

    /// Creates a recorder. It does nothing before its first [`start`](Self::start).
    pub fn new(history: Arc<dyn History>) -> Self {
        Self {
            history,
            clock: Arc::new(SystemClock),
            owner: BufferOwner::new(Self::MAX_EVENTS, Self::MAX_BYTES),
        }
    }

    /// Limits the buffer to this many events, at least 2, and to this total size of their payloads
    /// in bytes, as estimated in memory. Call it before cloning the recorder and before the first
    /// [`start`](Self::start): it replaces the buffer.
    #[must_use]
    pub fn with_buffer(mut self, events: usize, bytes: usize) -> Self {
        self.owner = BufferOwner::new(events, bytes);
        self
    }

    /// Sets the clock for the times of starts and events; the system clock by default.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Prepares a run of this skill. Awaiting the returned value stores the run, and returns its
    /// handle.
    pub fn start(&self, skill_id: impl Into<String>) -> StartRun {
        StartRun::new(self.clone(), skill_id.into())
    }

    /// Waits until everything that was recorded is written, but not longer than `limit`. Events
    /// that are recorded after this call are lost; runs can still be started and finished.
    ///
    /// Dropping the future is safe: the task continues. Outside a tokio runtime, this doesn't wait.
    pub async fn shutdown(&self, limit: Duration) -> Unwritten {
        self.buffer().close();
        if Handle::try_current().is_ok() {
            let emptied = pin!(self.buffer().emptied());
            let _ = timeout(limit, self.with_task(emptied)).await;
        }
        self.buffer().unwritten()
    }

    /// Starts the task if it isn't running, on the preferred runtime or the current one. Without a
    /// runtime, this does nothing.
    pub(crate) fn ensure_task(&self, preferred: Option<&Handle>) {
        let current = Handle::try_current().ok();
        for runtime in preferred.into_iter().chain(&current) {
            // A runtime that has ended drops the task at once, and with it the guard.
            let Some(guard) = self.buffer().claim_task() else {
                return;
            };
            let (history, buffer) = (Arc::clone(&self.history), Arc::clone(self.buffer()));
            runtime.spawn(writer::run(history, buffer, guard));
        }
    }

    /// Waits for a future that needs the task. If the task ends with its runtime, starts another.
    pub(crate) async fn with_task<F: Future + Unpin>(&self, mut future: F) -> F::Output {
        loop {
            let ended = pin!(self.buffer().task_ended());
            self.ensure_task(None);
            match select(&mut future, ended).await {
                Either::Left((output, _)) => return output,
                Either::Right(_) => tokio::task::yield_now().await,
            }
        }
    }

    pub(crate) fn buffer(&self) -> &Arc<Buffer> {
        &self.owner.buffer
    }
}

impl Unwritten {
    /// Returns whether everything is written and nothing was lost.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}
