//! Values that a `runtrail exec` passes to nested ones through the environment.

use std::env;
use std::time::Duration;

use rustix::process::{Pid, getpid, test_kill_process};

use super::processes::{Process, parse_pid};
use super::reservation::Payer;

/// The id of the outer run, which is the parent of a nested one.
const RUN_ID: &str = "RUNTRAIL_RUN_ID";

/// How many milliseconds after SIGTERM a nested `runtrail exec` kills its program. The nested one
/// can then finish its run before it gets SIGKILL itself.
const KILL_AFTER: &str = "RUNTRAIL_KILL_AFTER_MS";

/// The `runtrail exec` that set the variables: its process id, the start time of the process, and
/// its run. The variables are ignored once that process has ended: a daemon that the program left
/// behind still has them in its environment.
const RECORDER: &str = "RUNTRAIL_RECORDER";

/// Whom the outer `runtrail exec` and those around it have reserved for, as JSON. Their
/// reservations include what nested runs use.
const PAYERS: &str = "RUNTRAIL_PAYERS";

/// Values that this `runtrail exec` has inherited from the outer one.
pub(super) struct Inherited {
    pub(super) parent: Option<String>,
    pub(super) kill_after: Option<Duration>,
    pub(super) payers: Vec<Payer>,
}

impl Inherited {
    pub(super) fn from_environment() -> Self {
        let run_id = env::var(RUN_ID).ok().filter(|id| !id.is_empty());
        let recorder = env::var(RECORDER).unwrap_or_default();
        let recorder = Recorder::parse(&recorder);
        let is_alive = recorder.as_ref().is_some_and(Recorder::is_alive);
        // An id that isn't that of the recorder's run was set on purpose, for example by a host.
        let is_of_recorder = |id: &String| recorder.as_ref().is_some_and(|its| its.run_id == *id);
        let kill_after = env::var(KILL_AFTER).ok().filter(|_| is_alive);
        let is_nested = is_alive && run_id.as_ref().is_some_and(is_of_recorder);
        let payers = env::var(PAYERS).ok().filter(|_| is_nested);
        let payers = payers.and_then(|payers| serde_json::from_str(&payers).ok());
        Self {
            payers: payers.unwrap_or_default(),
            parent: run_id.filter(|id| is_alive || !is_of_recorder(id)),
            kill_after: kill_after
                .and_then(|milliseconds| milliseconds.parse().ok())
                .map(Duration::from_millis),
        }
    }

    /// Returns the variables for the program. `kill_after` is the time between SIGTERM and
    /// SIGKILL after the program's timeout, and `payer` is whom this run has reserved for.
    pub(super) fn variables(
        &self,
        run_id: &str,
        kill_after: Option<Duration>,
        payer: Option<Payer>,
    ) -> [(&'static str, Option<String>); 4] {
        // A nested one gets half of this process's time, to finish its run before it is killed.
        let kill_after = kill_after.or(self.kill_after).map(|whole| whole / 2);
        let started = Process::find(getpid()).map_or(0, |process| process.started);
        let payers: Vec<_> = self.payers.iter().chain(&payer).collect();
        let payers = Some(payers).filter(|payers| !payers.is_empty());
        let recorder = format!("{}:{started}:{run_id}", getpid().as_raw_nonzero());
        [
            (RUN_ID, Some(run_id.to_owned())),
            (RECORDER, Some(recorder)),
            (KILL_AFTER, kill_after.map(|it| it.as_millis().to_string())),
            (
                PAYERS,
                payers.and_then(|it| serde_json::to_string(&it).ok()),
            ),
        ]
    }
}

struct Recorder<'a> {
    pid: Pid,
    started: u64,
    run_id: &'a str,
}

impl<'a> Recorder<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (pid, rest) = text.split_once(':')?;
        let (started, run_id) = rest.split_once(':')?;
        Some(Self {
            pid: parse_pid(pid)?,
            started: started.parse().ok()?,
            run_id,
        })
    }

    fn is_alive(&self) -> bool {
        if self.started == 0 {
            // The system has no /proc.
            return test_kill_process(self.pid).is_ok();
        }
        Process::find(self.pid)
            .is_some_and(|process| process.is_running && process.started == self.started)
    }
}
