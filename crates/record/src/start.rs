use std::fmt;
use std::future::IntoFuture;

use futures_util::future::BoxFuture;
use runtrail_audit::{Error, Result, SkillRun, new_run_id};
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use crate::{Recorder, RunHandle};

/// A run that is about to start. Awaiting it stores the run, and returns its handle.
///
/// If the future is dropped or fails, the run may or may not be stored; if it is stored, it stays
/// `running`.
///
/// # Errors
///
/// Those of [`start_run`](runtrail_audit::Storage::start_run);
/// [`Backend`](runtrail_audit::Error::Backend) outside a tokio runtime.
#[must_use = "a run starts only when this is awaited"]
pub struct StartRun {
    recorder: Recorder,
    run: SkillRun,
}

impl StartRun {
    pub(crate) fn new(recorder: Recorder, skill_id: String) -> Self {
        let run = SkillRun::new(new_run_id(), skill_id, recorder.clock.now());
        Self { recorder, run }
    }

    /// Sets the id, which must be new: a handle numbers its events from 0. The default is
    /// [`new_run_id`](runtrail_audit::new_run_id).
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.run.id = id.into();
        self
    }

    /// Sets the user or program that the run is for.
    pub fn caller(mut self, caller_id: impl Into<String>) -> Self {
        self.run = self.run.caller(caller_id);
        self
    }

    /// Sets the channel that the request came through.
    pub fn channel(mut self, channel_id: impl Into<String>) -> Self {
        self.run = self.run.channel(channel_id);
        self
    }

    /// Sets the run that spawned this one; see also [`RunHandle::child`].
    pub fn parent(mut self, run_id: impl Into<String>) -> Self {
        self.run = self.run.parent(run_id);
        self
    }

    /// Adds a [label](runtrail_audit::SkillRun::labels).
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.run = self.run.label(key, value);
        self
    }

    /// Adds an argument.
    pub fn input(mut self, name: impl Into<String>, value: Value) -> Self {
        self.run = self.run.input(name, value);
        self
    }

    /// Replaces all arguments.
    pub fn inputs(mut self, inputs: Map<String, Value>) -> Self {
        self.run = self.run.inputs(inputs);
        self
    }

    async fn start(self) -> Result<RunHandle> {
        let runtime = Handle::try_current().map_err(|err| Error::Backend {
            transient: false,
            source: err.into(),
        })?;
        let Self { recorder, run } = self;
        recorder.history.start_run(&run).await?;
        recorder.ensure_task(None);
        Ok(RunHandle::new(recorder, &run, Some(runtime)))
    }
}

impl IntoFuture for StartRun {
    type Output = Result<RunHandle>;
    type IntoFuture = BoxFuture<'static, Result<RunHandle>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl fmt::Debug for StartRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recorder: _, run } = self;
        f.debug_struct("StartRun")
            .field("id", &run.id)
            .finish_non_exhaustive()
    }
}
