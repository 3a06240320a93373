use std::ffi::OsString;
use std::future::Future;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::outcome::{Ending, Outcome};
use super::pieces::{Lines, Splitter};
use super::processes::reap_orphans;
use super::pseudo_terminal::{self, PseudoTerminal, Typing};
use super::pump::{LAST_WORDS, pump};
use super::recorder::Events;
use super::shown::Shown;
use super::signals::{SAME_CAUSE, Signals};
use super::target::{LOOK_AGAIN, Target};
use super::tell;

/// The types of the events that are lines of output.
const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";
/// The same where both are one stream.
const OUTPUT: &str = "output";

/// Where a program's output goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Streams {
    /// Into a pipe for each stream: the order between lines of different streams is unknown.
    Separate,
    /// Into one pipe for both, as with `2>&1`.
    Merged,
    /// To a terminal of the program's own.
    Terminal,
}

/// Where we read a program's output.
enum Output {
    Separate,
    Merged(PipeReader),
    Terminal(Arc<PseudoTerminal>),
}

/// A program that was started.
struct Spawned {
    child: Child,
    target: Target,
    output: Output,
    /// The program's end of its terminal.
    kept: Option<OwnedFd>,
    typing: Option<Typing>,
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
        let (spawned, (running, until_it_ends)) = match spawned {
            Ok(spawned) => spawned,
            Err(err) => return Outcome::without_running(Ending::NotRun(err)),
        };
        let Spawned {
            mut child,
            mut target,
            output,
            kept,
            mut typing,
        } = spawned;
        let mut terminal = match &output {
            Output::Terminal(terminal) => Some(Arc::clone(terminal)),
            _ => None,
        };
        let mut runtime = None;
        let mut timed_out_after = None;
        let mut passed_on = None;

        let pumps = pump_output(&mut child, output, running, events);
        let mut until_it_ends = Some((until_it_ends, kept));
        let ended = wait_until_it_ends(target.program);
        let deadline = sleep(self.timeout.unwrap_or(Duration::MAX));
        // Nobody may be reading what we pass on; that must not keep a run open that somebody has ended.
        let pump_deadline = sleep(Duration::MAX);
        tokio::pin!(pumps, ended, deadline, pump_deadline);
        let mut at_deadline = self.timeout.map(|_| Signal::TERM);
        let mut look_again = interval(LOOK_AGAIN);
        look_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                outcome = &mut pumps, if pumped.is_none() => {
                    pumped = Some(outcome);
                    // If nobody reads what it shows, the terminal hangs up, as a pipe would break.
                    terminal = None;
                    stop_typing(typing.take()).await;
                }
                () = &mut pump_deadline => pumped = Some(Err("nobody has taken it".to_owned())),
                received = signals.next() => match received.signal {
                    Signal::CHILD => {
                        reap_orphans(target.program);
                        target.notice_stop();
                    }
                    Signal::CONT => {
                        target.go_on(runtime.is_none());
                        typing.iter().for_each(Typing::go_on);
                    }
                    Signal::WINCH => terminal.iter().for_each(|terminal| terminal.resize()),
                    signal => {
                        if let Some(runtime) = runtime {
                            let has_same_cause = started.elapsed() < runtime + SAME_CAUSE;
                            let patience = if has_same_cause { 2 * LAST_WORDS } else { Duration::ZERO };
                            pump_deadline.set(sleep(patience));
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
                _ = look_again.tick(), if at_deadline == Some(Signal::KILL) => {
                    target.terminate_escaped();
                }
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
        stop_typing(typing).await;
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

    fn spawn(&self) -> io::Result<Spawned> {
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let (output, program_end) = match self.streams {
            Streams::Separate => {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                (Output::Separate, None)
            }
            Streams::Merged => {
                let (reader, writer) = io::pipe()?;
                command.stdout(writer.try_clone()?).stderr(writer);
                (Output::Merged(reader), None)
            }
            Streams::Terminal => {
                let (terminal, program_end) = PseudoTerminal::open()?;
                (Output::Terminal(Arc::new(terminal)), Some(program_end))
            }
        };
        // Made before the program, which a failure would leave behind.
        let until_typed = program_end.as_ref().map(|_| io::pipe()).transpose()?;
        let (pts, kept) = program_end.map(|end| (end.pts, end.kept)).unzip();
        let (child, target) = Target::spawn(command, pts)?;
        let typing = match (&output, until_typed) {
            (Output::Terminal(terminal), Some(until)) => terminal.pass_on_typing(until),
            _ => None,
        };
        Ok(Spawned {
            child,
            target,
            output,
            kept,
            typing,
        })
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

async fn stop_typing(typing: Option<Typing>) {
    if let Some(typing) = typing
        && let Err(err) = typing.end().await
    {
        tell(format!(
            "what was typed was not passed on to its end: {err}"
        ));
    }
}

/// Passes on what the program prints, until it has had its last words; an error says why not all of it.
fn pump_output(
    child: &mut Child,
    output: Output,
    running: PipeReader,
    events: Option<Events>,
) -> impl Future<Output = Result<(), String>> + use<> {
    let running = Arc::new(running);
    let stdout = child.stdout.take();
    let stdout =
        stdout.map(|from| start_pump::<Splitter>(from, &running, io::stdout(), &events, STDOUT));
    let stderr = child.stderr.take();
    let stderr =
        stderr.map(|from| start_pump::<Splitter>(from, &running, io::stderr(), &events, STDERR));
    let both = match output {
        Output::Separate => None,
        Output::Merged(from) => Some(start_pump::<Splitter>(
            from,
            &running,
            io::stdout(),
            &events,
            OUTPUT,
        )),
        Output::Terminal(terminal) => {
            let from = pseudo_terminal::Output(terminal);
            Some(start_pump::<Shown>(
                from,
                &running,
                io::stdout(),
                &events,
                OUTPUT,
            ))
        }
    };
    async move {
        let mut passed_on = Ok(());
        for pumping in [both, stdout, stderr].into_iter().flatten() {
            let outcome = pumping.await.map_err(|err| err.to_string());
            passed_on =
                passed_on.and(outcome.and_then(|passed| passed.map_err(|err| err.to_string())));
        }
        passed_on
    }
}

fn start_pump<L: Lines + Default>(
    from: impl Read + AsFd + Send + 'static,
    running: &Arc<PipeReader>,
    to: impl AsFd + Send + 'static,
    events: &Option<Events>,
    event_type: &'static str,
) -> JoinHandle<io::Result<()>> {
    let (running, events) = (Arc::clone(running), events.clone());
    spawn_blocking(move || {
        let events = events.as_ref().map(|events| (events, event_type));
        pump(from, &running, to, &mut L::default(), events)
    })
}
