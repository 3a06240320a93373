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
use tokio::time::sleep;

use super::lines::{Lines, Splitter};
use super::outcome::{Ending, Outcome};
use super::process_tree::{MAX_POLL_INTERVAL, POLL_INTERVAL, ProcessTree};
use super::processes::reap_orphans;
use super::pseudo_terminal::{self, InputForwarder, PseudoTerminal};
use super::pump::{DRAIN_TIMEOUT, pump};
use super::recorder::Events;
use super::report;
use super::signals::{SAME_CAUSE_WINDOW, Signals};
use super::terminal_lines::TerminalLines;

/// The event types of lines of output.
const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";
/// The event type if stdout and stderr are one stream.
const OUTPUT: &str = "output";

/// Where a program's output goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Streams {
    /// To a pipe per stream. The order between lines of different streams is unknown.
    Separate,
    /// To one pipe for both streams, as with `2>&1`.
    Merged,
    /// To the program's own terminal.
    Terminal,
}

/// The source from which this process reads a program's output.
enum Output {
    Separate,
    Merged(PipeReader),
    Terminal(Arc<PseudoTerminal>),
}

/// A program that was started.
struct Spawned {
    child: Child,
    tree: ProcessTree,
    output: Output,
    /// The program's end of its terminal, kept open.
    keep_open: Option<OwnedFd>,
    input: Option<InputForwarder>,
}

/// A program to run, and how.
pub(super) struct Program<'a> {
    pub(super) command: &'a [OsString],
    pub(super) streams: Streams,
    /// Variables to add to the inherited environment, or to remove from it (`None`).
    pub(super) environment: Vec<(&'static str, Option<String>)>,
    pub(super) timeout: Option<Duration>,
    /// The time between the SIGTERM of the timeout and SIGKILL.
    pub(super) kill_after: Duration,
    /// The time between a forwarded SIGTERM and SIGKILL. Set inside an outer `runtrail exec`, which
    /// kills this process later.
    pub(super) inherited_kill_after: Option<Duration>,
}

impl Program<'_> {
    /// Runs the program to its end. Passes on its output, and sends it to `events`.
    pub(super) async fn run(self, events: Option<Events>, signals: &mut Signals) -> Outcome {
        if let Some(signal) = signals.pending_fatal() {
            return Outcome::without_running(Ending::Cancelled(signal));
        }
        let started = Instant::now();
        let spawned = io::pipe().and_then(|pipe| Ok((self.spawn()?, pipe)));
        let (spawned, (running, end_pipe)) = match spawned {
            Ok(spawned) => spawned,
            Err(err) => return Outcome::without_running(Ending::NotRun(err)),
        };
        let Spawned {
            mut child,
            mut tree,
            output,
            keep_open,
            mut input,
        } = spawned;
        let mut terminal = match &output {
            Output::Terminal(terminal) => Some(Arc::clone(terminal)),
            _ => None,
        };
        let mut runtime = None;
        let mut timed_out_after = None;
        let mut forwarded_signal = None;

        let pumps = pump_output(&mut child, output, running, events);
        let mut end_pipe = Some((end_pipe, keep_open));
        let ended = wait_for_exit(tree.program);
        let deadline = sleep(self.timeout.unwrap_or(Duration::MAX));
        // The reader of the output may have stalled. That must not keep a run open after a timeout
        // or a signal.
        let pump_deadline = sleep(Duration::MAX);
        // After a timeout, when to look for processes that have left the group.
        let poll = sleep(Duration::ZERO);
        let mut poll_interval = POLL_INTERVAL;
        tokio::pin!(pumps, ended, deadline, pump_deadline, poll);
        let mut at_deadline = self.timeout.map(|_| Signal::TERM);
        let mut pumped = None;
        while runtime.is_none() || pumped.is_none() {
            tokio::select! {
                () = &mut ended, if runtime.is_none() => {
                    runtime = Some(started.elapsed());
                    // The pumps now drain the remaining output.
                    drop(end_pipe.take());
                    // If the program ended in time, the timeout doesn't apply to the processes that
                    // it leaves behind.
                    at_deadline = at_deadline.filter(|_| timed_out_after.is_some());
                    if timed_out_after.is_some() || forwarded_signal.is_some() {
                        pump_deadline.set(sleep(2 * DRAIN_TIMEOUT));
                    }
                }
                outcome = &mut pumps, if pumped.is_none() => {
                    pumped = Some(outcome);
                    // If the output has no reader any more, hang up the terminal. A pipe would
                    // break instead.
                    terminal = None;
                    stop_input(input.take()).await;
                }
                () = &mut pump_deadline => pumped = Some(Err("its reader has stalled".to_owned())),
                received = signals.next() => match received.signal {
                    Signal::CHILD => {
                        reap_orphans(tree.program);
                        tree.check_stopped();
                    }
                    Signal::CONT => {
                        tree.resume(runtime.is_none());
                        input.iter().for_each(InputForwarder::resume);
                    }
                    Signal::WINCH => terminal.iter().for_each(|terminal| terminal.resize()),
                    signal => {
                        if let Some(runtime) = runtime {
                            let has_same_cause = started.elapsed() < runtime + SAME_CAUSE_WINDOW;
                            let timeout = if has_same_cause {
                                2 * DRAIN_TIMEOUT
                            } else {
                                Duration::ZERO
                            };
                            pump_deadline.set(sleep(timeout));
                        }
                        if tree.forward(received, runtime.is_none()) {
                            forwarded_signal = Some(signal);
                            if let Some(kill_after) = self.inherited_kill_after
                                && signal == Signal::TERM
                            {
                                at_deadline = Some(Signal::KILL);
                                deadline.set(sleep(kill_after));
                            }
                        }
                    }
                },
                () = tree.terminal_available() => tree.resume(runtime.is_none()),
                () = &mut poll, if timed_out_after.is_some() => {
                    tree.terminate_escaped();
                    // Poll less and less often, since --kill-after may be long.
                    poll.set(sleep(poll_interval));
                    poll_interval = MAX_POLL_INTERVAL.min(2 * poll_interval);
                }
                () = &mut deadline, if at_deadline.is_some() => {
                    if at_deadline.take() == Some(Signal::KILL) {
                        tree.kill(runtime.is_none());
                    } else {
                        tree.terminate(runtime.is_none());
                        timed_out_after = self.timeout;
                        at_deadline = Some(Signal::KILL);
                        deadline.set(sleep(self.kill_after));
                    }
                }
            }
        }
        stop_input(input).await;
        let ending = child.wait().map_or_else(Ending::Unknown, Ending::Exited);
        if at_deadline == Some(Signal::KILL) {
            tree.wait_for_end(deadline).await;
        }
        Outcome {
            ending,
            runtime: runtime.unwrap_or_default(),
            timed_out_after,
            forwarded_signal,
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
        // Created before the program is spawned: a failure afterwards would leave the program
        // behind.
        let input_stop = program_end.as_ref().map(|_| io::pipe()).transpose()?;
        let (pts, keep_open) = program_end.map(|end| (end.pts, end.keep_open)).unzip();
        let (child, tree) = ProcessTree::spawn(command, pts)?;
        let input = match (&output, input_stop) {
            (Output::Terminal(terminal), Some(stop)) => terminal.forward_input(stop),
            _ => None,
        };
        Ok(Spawned {
            child,
            tree,
            output,
            keep_open,
            input,
        })
    }
}

/// Waits for a program without reaping it, so that its process id isn't reused.
fn wait_for_exit(program: Pid) -> impl Future<Output = ()> + use<> {
    let waiting = spawn_blocking(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(Errno::INTR) = waitid(WaitId::Pid(program), options) {}
    });
    async move {
        // Can't fail, since the task doesn't panic.
        let _ = waiting.await;
    }
}

async fn stop_input(input: Option<InputForwarder>) {
    if let Some(input) = input
        && let Err(err) = input.end().await
    {
        report(format!("not all keyboard input was passed on: {err}"));
    }
}

/// Passes on the program's output until [`DRAIN_TIMEOUT`] after its end. An error says why some of
/// it was not passed on.
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
            Some(start_pump::<TerminalLines>(
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
