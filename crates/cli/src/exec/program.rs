use std::ffi::OsString;
use std::future::Future;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::outcome::{Ending, Outcome};
use super::processes::reap_orphans;
use super::pump::{LAST_WORDS, pump};
use super::recorder::Events;
use super::signals::Signals;
use super::target::Target;

/// The types of the events that are lines of output.
const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";
/// The same for merged streams.
const OUTPUT: &str = "output";

/// The pipes for a program's output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Streams {
    /// A pipe for each stream: the order between lines of different streams is unknown.
    Separate,
    /// One pipe for both, as with `2>&1`.
    Merged,
}

/// A program to run, and how.
pub(super) struct Program<'a> {
    pub(super) command: &'a [OsString],
    pub(super) streams: Streams,
    /// What its environment has beside ours; what has no value is taken out.
    pub(super) environment: Vec<(&'static str, Option<String>)>,
    pub(super) timeout: Option<Duration>,
    /// How long after SIGTERM, at the timeout, SIGKILL follows.
    pub(super) kill_after: Duration,
    /// The same after a SIGTERM that was sent to us, by a `runtrail exec` that will kill us in turn.
    pub(super) inherited_kill_after: Option<Duration>,
}

impl Program<'_> {
    /// Runs it to its end, handing what it prints to `events` as well.
    pub(super) async fn run(self, events: Option<Events>, signals: &mut Signals) -> Outcome {
        if let Some(signal) = signals.pending_fatal() {
            return Outcome::without_running(Ending::Forestalled(signal));
        }
        let started = Instant::now();
        let spawned = io::pipe().and_then(|pipe| Ok((self.spawn()?, pipe)));
        let ((mut child, merged, mut target), (running, until_it_ends)) = match spawned {
            Ok(spawned) => spawned,
            Err(err) => return Outcome::without_running(Ending::NotRun(err)),
        };
        let mut runtime = None;
        let mut timed_out_after = None;
        let mut passed_on = None;

        let pumps = pump_output(&mut child, merged, running, events);
        let mut until_it_ends = Some(until_it_ends);
        let ended = wait_until_it_ends(target.program);
        let deadline = sleep(self.timeout.unwrap_or(Duration::MAX));
        // Nobody may be reading what we pass on; that must not keep a run open that somebody has ended.
        let pump_deadline = sleep(Duration::MAX);
        tokio::pin!(pumps, ended, deadline, pump_deadline);
        let mut at_deadline = self.timeout.map(|_| Signal::TERM);
        let mut pumped = None;
        while runtime.is_none() || pumped.is_none() {
            tokio::select! {
                () = &mut ended, if runtime.is_none() => {
                    runtime = Some(started.elapsed());
                    // The pumps expect no more than last words now.
                    drop(until_it_ends.take());
                    // One that ends in time is not timed out by what it leaves behind.
                    at_deadline = at_deadline.filter(|_| timed_out_after.is_some());
                    if timed_out_after.is_some() || passed_on.is_some() {
                        pump_deadline.set(sleep(2 * LAST_WORDS));
                    }
                }
                outcome = &mut pumps, if pumped.is_none() => pumped = Some(outcome),
                () = &mut pump_deadline => pumped = Some(Err("nobody has taken it".to_owned())),
                received = signals.next() => match received.signal {
                    Signal::CHILD => {
                        reap_orphans(target.program);
                        target.notice_stop();
                    }
                    Signal::CONT => target.go_on(runtime.is_none()),
                    signal => {
                        if runtime.is_some() {
                            pump_deadline.set(sleep(Duration::ZERO));
                        }
                        if target.pass_on(received, runtime.is_none()) {
                            passed_on = Some(signal);
                            if let Some(kill_after) = self.inherited_kill_after
                                && signal == Signal::TERM
                            {
                                at_deadline = Some(Signal::KILL);
                                deadline.set(sleep(kill_after));
                            }
                        }
                    }
                },
                () = target.can_have_the_terminal() => target.go_on(runtime.is_none()),
                () = &mut deadline, if at_deadline.is_some() => {
                    if at_deadline.take() == Some(Signal::KILL) {
                        target.kill(runtime.is_none());
                    } else {
                        target.terminate(runtime.is_none());
                        timed_out_after = self.timeout;
                        at_deadline = Some(Signal::KILL);
                        deadline.set(sleep(self.kill_after));
                    }
                }
            }
        }
        let ending = child.wait().map_or_else(Ending::Unknown, Ending::Exited);
        if at_deadline == Some(Signal::KILL) {
            target.see_off(deadline).await;
        }
        Outcome {
            ending,
            runtime: runtime.unwrap_or_default(),
            timed_out_after,
            passed_on,
            output_lost: pumped.and_then(Result::err),
        }
    }

    /// Starts the program; its output comes from the child's pipes, or from the returned pipe if merged.
    fn spawn(&self) -> io::Result<(Child, Option<PipeReader>, Target)> {
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments);
        let merged = if self.streams == Streams::Merged {
            let (reader, writer) = io::pipe()?;
            command.stdout(writer.try_clone()?).stderr(writer);
            Some(reader)
        } else {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        };
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let (child, target) = Target::spawn(&mut command)?;
        Ok((child, merged, target))
    }
}

/// Waits for a program without taking away its exit status, so that its id stays its own.
fn wait_until_it_ends(program: Pid) -> impl Future<Output = ()> + use<> {
    let waiting = spawn_blocking(move || {
        let until_it_ends = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(Errno::INTR) = waitid(WaitId::Pid(program), until_it_ends) {}
    });
    async move {
        // It can't fail: there is nothing in it that panics.
        let _ = waiting.await;
    }
}

/// Passes on what the program prints, until it has had its last words; an error says why not all of it.
fn pump_output(
    child: &mut Child,
    merged: Option<PipeReader>,
    running: PipeReader,
    events: Option<Events>,
) -> impl Future<Output = Result<(), String>> + use<> {
    let running = Arc::new(running);
    let merged = merged.map(|from| start_pump(from, &running, io::stdout(), &events, OUTPUT));
    let stdout = child.stdout.take();
    let stdout = stdout.map(|from| start_pump(from, &running, io::stdout(), &events, STDOUT));
    let stderr = child.stderr.take();
    let stderr = stderr.map(|from| start_pump(from, &running, io::stderr(), &events, STDERR));
    async move {
        let mut passed_on = Ok(());
        for pumping in [merged, stdout, stderr].into_iter().flatten() {
            let outcome = pumping.await.map_err(|err| err.to_string());
            passed_on =
                passed_on.and(outcome.and_then(|passed| passed.map_err(|err| err.to_string())));
        }
        passed_on
    }
}

fn start_pump(
    from: impl Read + AsFd + Send + 'static,
    running: &Arc<PipeReader>,
    to: impl AsFd + Send + 'static,
    events: &Option<Events>,
    event_type: &'static str,
) -> JoinHandle<io::Result<()>> {
    let (running, events) = (Arc::clone(running), events.clone());
    spawn_blocking(move || {
        let events = events.as_ref().map(|events| (events, event_type));
        pump(from, &running, to, events)
    })
}
