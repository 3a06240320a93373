//! Running a program as a recorded run.
//!
//! The program's stdout and stderr are pipes that two threads read: what comes is passed on at once, split into
//! events, and handed to the recorder over a bounded channel. When the database is slower than the program, the
//! channel fills, the threads wait, and so does the program: memory stays bounded, and nothing is left out.

mod database_file;
mod inherited;
mod loss;
mod outcome;
mod patience;
mod pieces;
mod processes;
mod program;
mod pseudo_terminal;
mod pump;
mod recorder;
mod shown;
mod signals;
mod start;
mod target;
mod terminal;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use runtrail::{Clock, RunStatus, SkillRun, SystemClock, new_run_id, rules};
use rustix::process::Signal;
use serde_json::{Map, Value};
use tokio::time::{sleep, timeout};

use self::inherited::Inherited;
use self::outcome::{Ending, after_signal, name};
use self::patience::IMPATIENCE;
use self::program::{Program, Streams};
use self::recorder::{Recorder, Started, tell_unrecorded};
use self::signals::Signals;
use self::start::Start;
use crate::Exit;
use crate::database::DatabaseArguments;
use crate::failure::{FAILED, Failure, Result};
use crate::handed_down::HandedDown;
use crate::time;
use crate::warnings::note;

/// The member of the inputs that holds the command line.
const COMMAND: &str = "command";

/// The member of the inputs that holds the process id of the recorder: it tells two recorders apart that start the same
/// command under the same id at the same moment.
const EXEC_PID: &str = "exec_pid";

/// Run a program and record it: each line that it prints is an event of the run.
///
/// What it prints is passed on unchanged and at once, and so is its exit code: 128 + N if signal N has killed it,
/// 124 after a timeout, 127 if there is no such program, 126 if it can't be run.
///
/// A line is recorded as a person would see it: only what follows its last carriage return, as progress bars use it.
///
/// A `runtrail exec` within the program records a child of this run, if it records into the same database, and
/// otherwise a top-level run.
///
/// The command line is stored among the inputs of the run, so keep passwords out of it. So is the process id of
/// `runtrail exec`.
#[derive(Args)]
pub(crate) struct Exec {
    /// Id of the run [default: a new UUIDv7].
    #[arg(long)]
    id: Option<String>,
    /// Name of the skill, agent or job [default: the program's file name].
    #[arg(long)]
    skill: Option<String>,
    /// Who it is run for, such as a user or a service.
    #[arg(long, default_value = "", hide_default_value = true)]
    caller: String,
    /// Where it was asked for, such as cron, cli or chat.
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
    /// Store KEY with VALUE, as text, among the inputs of the run; repeatable. The keys `command` and `exec_pid` are
    /// taken.
    #[arg(long = "input", value_name = "KEY=VALUE", value_parser = key_and_value)]
    inputs: Vec<(String, String)>,
    /// End the program after this long, with SIGTERM.
    ///
    /// In the foreground of a terminal only the program itself, and otherwise whatever it has started as well.
    /// On Linux that includes what has left its process group.
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    timeout: Option<Duration>,
    /// How long after the SIGTERM of a timeout SIGKILL follows.
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "10s")]
    kill_after: Duration,
    /// Record the run with the status dry_run, however it ends. The program runs all the same.
    ///
    /// list, count and export leave such runs out unless they are given --include-dry-run.
    #[arg(long)]
    dry_run_status: bool,
    /// Give the program one pipe for stdout and stderr, as `2>&1` does: its lines stay in their order.
    ///
    /// They are passed on to stdout, and are events of the type output.
    #[arg(long)]
    merge: bool,
    /// Give the program a terminal of its own, for colours, progress bars and prompts.
    ///
    /// What it prints is passed on to stdout. Its lines are events of the type output, as a person sees them: without
    /// colours, and without what was overwritten in the same line. The program gets what is typed, ^C included. A stdin
    /// that is not a terminal is its own. The terminals have the same size; without one it is 80 by 24.
    #[arg(long, conflicts_with = "merge")]
    pty: bool,
    /// Run the program even when it can't be recorded, and pass on its exit code all the same.
    ///
    /// A database that doesn't answer delays the start of the program by a second, and its end by at most 15.
    /// Without it nothing is run when the run can't be recorded, and a run of which something is lost on the way
    /// gives exit code 1 unless the program's own says that it has failed.
    #[arg(long)]
    keep_going: bool,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Exec {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<Exit> {
        // Before anything is recorded: from here on no signal leaves the run unfinished.
        let mut signals = Signals::catch()
            .map_err(|err| Failure::failed(format!("signals can't be caught: {err}")))?;
        processes::adopt_orphans();
        let run_id = match &self.id {
            Some(id) if id.starts_with('@') => {
                let message = "--id must not begin with @, as @last does";
                return Err(Failure::usage(message));
            }
            Some(id) => id.clone(),
            None => new_run_id(),
        };
        let inherited = Inherited::from_environment();
        let not_run = |failure| Failure::NotRun(Box::new(failure));
        let start = Start {
            database: database.clone(),
            run: self
                .as_run(&run_id, inherited.parent.clone())
                .map_err(not_run)?,
            keep_going: self.keep_going,
        };
        let handed_down = match database.hand_down() {
            Ok(handed_down) => handed_down,
            Err(failure) if self.keep_going => {
                tell(failure.in_one_line());
                HandedDown::nothing()
            }
            Err(failure) => return Err(not_run(failure)),
        };
        let mut environment = handed_down.variables.to_vec();
        environment.extend(inherited.hand_down(&run_id, self.timeout.map(|_| self.kill_after)));

        let (recorder, started) = Recorder::new(&run_id, database.clone(), start.store());
        let recorder = match self.wait_for(started, &mut signals).await? {
            Beginning::Recorded => Some(recorder),
            Beginning::Unrecorded => None,
            Beginning::Forestalled(signal) => {
                let name = name(signal);
                note(format!("error: nothing was run: runtrail was sent {name}"));
                return Ok(match signal {
                    Signal::INT => Exit::Interrupted,
                    signal => Exit::Code(after_signal(signal.as_raw())),
                });
            }
        };
        let program = Program {
            command: &self.command,
            streams: match (self.merge, self.pty) {
                (true, _) => Streams::Merged,
                (false, true) => Streams::Terminal,
                (false, false) => Streams::Separate,
            },
            environment,
            timeout: self.timeout,
            kill_after: self.kill_after,
            inherited_kill_after: inherited.kill_after,
        };
        let outcome = program
            .run(recorder.as_ref().map(Recorder::events), &mut signals)
            .await;
        let mut exit_code = outcome.exit_code();
        if !matches!(outcome.ending, Ending::Exited(_)) {
            let program = self.command.first().map(Path::new).unwrap_or(Path::new(""));
            tell(format!("{}: {}", program.display(), outcome.error()));
        }
        if let Some(reason) = &outcome.output_lost {
            tell(format!("the output was not passed on to its end: {reason}"));
        }
        if let Some(recorder) = recorder {
            let status = self.status_of(outcome.status());
            if let Err(loss) = recorder.finish(status, &outcome, &mut signals).await {
                tell(format!("run {run_id} is recorded incompletely: {loss}"));
                if exit_code == 0 && !self.keep_going {
                    exit_code = FAILED;
                }
            }
        }
        Ok(match outcome.was_interrupted() {
            true => Exit::Interrupted,
            false => Exit::Code(exit_code),
        })
    }

    /// Waits until the start of the run is stored; with --keep-going at most for [`IMPATIENCE`]. A signal ends the
    /// wait.
    async fn wait_for(&self, mut started: Started, signals: &mut Signals) -> Result<Beginning> {
        let started = tokio::select! {
            started = &mut started => started,
            // If the start fails later, the recorder reports it.
            () = sleep(IMPATIENCE), if self.keep_going => return Ok(Beginning::Recorded),
            received = signals.next_fatal() => {
                // The program won't run. But if its start is stored at this moment, the run must be finished.
                signals.put_back(received);
                match timeout(IMPATIENCE, &mut started).await {
                    Ok(started) => started,
                    Err(_) => return Ok(Beginning::Forestalled(received.signal)),
                }
            }
        };
        match started {
            Ok(Ok(())) => Ok(Beginning::Recorded),
            Ok(Err(failure)) if self.keep_going && failure.is_out_of_reach() => {
                tell_unrecorded(&failure);
                Ok(Beginning::Unrecorded)
            }
            Ok(Err(failure)) => Err(Failure::NotRun(Box::new(failure))),
            Err(err) => Err(Failure::failed(format!("the recorder has ended: {err}"))),
        }
    }

    /// The run as it starts.
    fn as_run(&self, run_id: &str, parent: Option<String>) -> Result<SkillRun> {
        let mut inputs = Map::new();
        let command = self
            .command
            .iter()
            .map(|word| word.to_string_lossy().into());
        inputs.insert(COMMAND.to_owned(), Value::Array(command.collect()));
        inputs.insert(EXEC_PID.to_owned(), std::process::id().into());
        for (key, value) in &self.inputs {
            if inputs.insert(key.clone(), value.as_str().into()).is_some() {
                return Err(Failure::usage(format!(
                    "the input {key:?} is given twice, or is one that exec sets itself"
                )));
            }
        }
        let mut run = SkillRun::new(run_id, self.skill(), SystemClock.now())
            .caller(&*self.caller)
            .channel(&*self.channel)
            .inputs(inputs)
            .status(self.status_of(RunStatus::RUNNING));
        run.parent_run_id = parent;
        Ok(run)
    }

    /// Hidden, if the run shall be.
    fn status_of(&self, status: RunStatus) -> RunStatus {
        match self.dry_run_status {
            true => RunStatus::DRY_RUN,
            false => status,
        }
    }

    fn skill(&self) -> String {
        match &self.skill {
            Some(skill) => skill.clone(),
            None => as_identifier(self.program()),
        }
    }

    /// The name of the program, without its folder.
    fn program(&self) -> String {
        let program = self.command.first().map(Path::new);
        let name = program.map(|path| path.file_name().unwrap_or(path.as_os_str()));
        name.unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Whether a program runs, and is recorded.
enum Beginning {
    /// The start is stored, or still being stored.
    Recorded,
    Unrecorded,
    /// A signal has arrived before the program could run.
    Forestalled(Signal),
}

/// Tells something beside what the program prints.
fn tell(message: String) {
    note(format!("runtrail: {message}"));
}

/// As much of a name as fits into an identifier.
fn as_identifier(mut name: String) -> String {
    let end = name.floor_char_boundary(rules::MAX_IDENTIFIER_BYTES);
    name.truncate(end);
    name
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("give KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
