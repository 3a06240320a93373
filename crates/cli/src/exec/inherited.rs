//! What a `runtrail exec` tells those within its program.

use std::env;
use std::time::Duration;

use rustix::process::{Pid, getpid, test_kill_process};

use super::processes::Process;

/// Which run they are in; a `runtrail exec` in there becomes its child.
const RUN_ID: &str = "RUNTRAIL_RUN_ID";

/// How many milliseconds after SIGTERM they have to kill their program, if they are to finish their own run before they
/// are killed themselves.
const KILL_AFTER: &str = "RUNTRAIL_KILL_AFTER_MS";

/// Who says so: the process, when it started, and its run. What it says is heeded only while it lives, since the
/// variables outlive it in the environment of a daemon that its program leaves behind.
const RECORDER: &str = "RUNTRAIL_RECORDER";

/// What the `runtrail exec` around this one says.
pub(super) struct Inherited {
    pub(super) parent: Option<String>,
    pub(super) kill_after: Option<Duration>,
}

impl Inherited {
    pub(super) fn from_environment() -> Self {
        let run_id = env::var(RUN_ID).ok().filter(|id| !id.is_empty());
        let recorder = env::var(RECORDER).unwrap_or_default();
        let recorder = Recorder::parse(&recorder);
        let is_alive = recorder.as_ref().is_some_and(Recorder::is_alive);
        // Another id than the recorder's was set on purpose, as by a host that runs this command.
        let is_its_own = |id: &String| recorder.as_ref().is_some_and(|its| its.run_id == *id);
        let kill_after = env::var(KILL_AFTER).ok().filter(|_| is_alive);
        Self {
            parent: run_id.filter(|id| is_alive || !is_its_own(id)),
            kill_after: kill_after
                .and_then(|milliseconds| milliseconds.parse().ok())
                .map(Duration::from_millis),
        }
    }

    /// The variables for a program that has this long after the SIGTERM of its timeout.
    pub(super) fn hand_down(
        &self,
        run_id: &str,
        kill_after: Option<Duration>,
    ) -> [(&'static str, Option<String>); 3] {
        // Half of what we have ourselves, so that one that is recorded in there can finish its run in time.
        let kill_after = kill_after.or(self.kill_after).map(|whole| whole / 2);
        let started = Process::find(getpid()).map_or(0, |process| process.started);
        let recorder = format!("{}:{started}:{run_id}", getpid().as_raw_nonzero());
        [
            (RUN_ID, Some(run_id.to_owned())),
            (RECORDER, Some(recorder)),
            (KILL_AFTER, kill_after.map(|it| it.as_millis().to_string())),
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
            pid: Pid::from_raw(pid.parse().ok()?)?,
            started: started.parse().ok()?,
            run_id,
        })
    }

    fn is_alive(&self) -> bool {
        if self.started == 0 {
            // A system without /proc.
            return test_kill_process(self.pid).is_ok();
        }
        Process::find(self.pid)
            .is_some_and(|process| process.is_running && process.started == self.started)
    }
}
