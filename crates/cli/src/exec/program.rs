use std::ffi::OsString;
use std::future::Future;
use std::io::{self, IsTerminal, PipeReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::outcome::{Ending, Outcome};
use super::pump::pump;
use super::recorder::Events;
use super::signals::{Received, Signals};

/// The types of the events that are lines of output.
const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";

/// A program to run, and how.
pub(super) struct Program<'a> {
    pub(super) command: &'a [OsString],
    pub(super) environment: [(&'static str, String); 2],
    pub(super) timeout: Option<Duration>,
    pub(super) kill_after: Duration,
}

impl Program<'_> {
    /// Runs it to its end, handing what it prints to `events` as well.
    pub(super) async fn run(self, events: Option<Events>, mut signals: Signals) -> Outcome {
        let started = Instant::now();
        let spawned = io::pipe().and_then(|pipe| Ok((self.spawn()?, pipe)));
        let (mut child, (running, until_it_ends)) = match spawned {
            Ok(spawned) => spawned,
            Err(err) => return Outcome::not_run(err),
        };
        let target = Target::of(&child);
        let mut runtime = None;
        let mut timed_out_after = None;
        let mut passed_on = None;

        let pumps = pump_output(&mut child, running, events);
        let mut until_it_ends = Some(until_it_ends);
        let ended = wait_until_it_ends(&child);
        let deadline = sleep(self.timeout.unwrap_or(Duration::MAX));
        tokio::pin!(pumps, ended, deadline);
        let mut at_deadline = self.timeout.map(|_| Signal::TERM);
        let mut is_silent = false;
        while runtime.is_none() || !is_silent {
            tokio::select! {
                () = &mut ended, if runtime.is_none() => {
                    runtime = Some(started.elapsed());
                    // The pumps expect no more than last words now.
                    until_it_ends = None;
                    // One that ends in time is not timed out by what it leaves behind.
                    at_deadline = at_deadline.filter(|_| timed_out_after.is_some());
                }
                () = &mut pumps, if !is_silent => is_silent = true,
                Some(signal) = signals.next() => {
                    if target.pass_on(signal, runtime.is_none()) {
                        passed_on = Some(signal.number);
                    }
                }
                () = &mut deadline, if at_deadline.is_some() => {
                    if let Some(signal) = at_deadline {
                        target.send(signal, runtime.is_none());
                    }
                    at_deadline = timed_out_after.is_none().then_some(Signal::KILL);
                    timed_out_after = self.timeout;
                    deadline.set(sleep(self.kill_after));
                }
            }
        }
        drop(until_it_ends);
        Outcome {
            ending: child.wait().map_or_else(Ending::NotRun, Ending::Exited),
            runtime: runtime.unwrap_or_default(),
            timed_out_after,
            passed_on,
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if Target::is_group() {
            command.process_group(0);
        }
        command.spawn()
    }
}

/// Who gets the signals.
///
/// The program has a process group of its own, so that they reach whatever it starts. But only the foreground
/// group may read from a terminal, and that is ours: there it shares ours, and gets them alone.
#[derive(Clone, Copy)]
enum Target {
    Group(Pid),
    Process(Pid),
}

impl Target {
    fn is_group() -> bool {
        !io::stdin().is_terminal()
    }

    fn of(child: &Child) -> Self {
        let pid = Pid::from_child(child);
        match Self::is_group() {
            true => Self::Group(pid),
            false => Self::Process(pid),
        }
    }

    /// Passes on a signal that was sent to us; false if the program has had it anyway.
    fn pass_on(self, received: Received, is_running: bool) -> bool {
        let is_shared = matches!(self, Self::Process(_)) && received.is_from_terminal;
        if let Some(signal) = Signal::from_named_raw(received.number)
            && !is_shared
        {
            self.send(signal, is_running);
            return true;
        }
        false
    }

    fn send(self, signal: Signal, is_running: bool) {
        // An error means that it has ended meanwhile.
        let _ = match self {
            Self::Group(pid) => kill_process_group(pid, signal),
            Self::Process(pid) if is_running => kill_process(pid, signal),
            Self::Process(_) => Ok(()),
        };
    }
}

/// Waits for a program without taking away its exit status, so that its id stays its own.
fn wait_until_it_ends(child: &Child) -> impl Future<Output = ()> + use<> {
    let pid = Pid::from_child(child);
    let waiting = spawn_blocking(move || {
        let until_it_ends = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), until_it_ends) {}
    });
    async move {
        // It can't fail: there is nothing in it that panics.
        let _ = waiting.await;
    }
}

/// Passes on what the program prints, until it has been silent for a while after its end.
fn pump_output(
    child: &mut Child,
    running: PipeReader,
    events: Option<Events>,
) -> impl Future<Output = ()> + use<> {
    let running = Arc::new(running);
    let stdout = child.stdout.take().map(|from| {
        let (running, events) = (Arc::clone(&running), events.clone());
        spawn_blocking(move || {
            pump(
                from,
                &running,
                io::stdout(),
                events.as_ref().map(|events| (events, STDOUT)),
            );
        })
    });
    let stderr = child.stderr.take().map(|from| {
        spawn_blocking(move || {
            pump(
                from,
                &running,
                io::stderr(),
                events.as_ref().map(|events| (events, STDERR)),
            );
        })
    });
    async move {
        for pumping in [stdout, stderr].into_iter().flatten() {
            // It can't fail: there is nothing in it that panics.
            let _ = pumping.await;
        }
    }
}
