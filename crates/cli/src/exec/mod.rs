//! Runs a program as a recorded run.
//!
//! Two threads read the program's stdout and stderr from pipes. They pass on each chunk
//! immediately, split it into events, and send those to the recorder over a bounded channel. When
//! the database is slower than the program, the channel fills, the threads block, and so does the
//! program: memory stays bounded, and no event is dropped.

mod database_file;
mod inherited;
mod lines;
mod loss;
mod outcome;
mod process_tree;
mod processes;
mod program;
mod pseudo_terminal;
mod pump;
mod recorder;
mod reservation;
mod retry_budget;
mod signals;
mod start;
mod telemetry;
mod terminal;
mod terminal_lines;
mod trace_context;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use runtrail::{
    Amount, AuditStore, Clock, Owner, ReservationRequest, RunStatus, SkillRun, SystemClock,
    new_run_id, rules,
};
use rustix::process::Signal;
use serde_json::{Map, Value};
use tokio::time::{sleep, timeout};

use self::inherited::Inherited;
use self::outcome::{Ending, signal_exit_code, signal_name};
use self::program::{Program, Streams};
use self::recorder::{Recorder, Started, report_unrecorded};
use self::reservation::{Payer, Reservation};
use self::retry_budget::SHORT_TIMEOUT;
use self::signals::Signals;
use self::start::{Start, Stored};
use self::telemetry::Telemetry;
use self::trace_context::TraceContext;
use crate::Exit;
use crate::budget;
use crate::database::DatabaseArguments;
use crate::database_environment::DatabaseEnvironment;
use crate::failure::{FAILED, Failure, Result};
use crate::label::label;
use crate::prices::PriceArguments;
use crate::time;
use crate::warnings::note;

/// The key of the command line among the inputs.
const COMMAND: &str = "command";

/// How long the telemetry of a program may take to be stored after its end.
const LAST_TELEMETRY: Duration = Duration::from_secs(14);

/// The key of the process id of `runtrail exec` among the inputs. It distinguishes two processes
/// that start the same command under the same id at the same moment.
const EXEC_PID: &str = "exec_pid";

/// Run a program and record it: each line that it prints is an event of the run.
///
/// The output is passed on unchanged and immediately. The exit code is the program's own: 128 + N
/// if signal N killed it, 124 after a timeout, 127 if the program doesn't exist, 126 if it can't be
/// run, 5 if it wasn't started because of a budget.
///
/// A line is recorded as a terminal shows it: only the text after its last carriage return. Of a
/// progress bar, that is the last state.
///
/// A `runtrail exec` inside the program records a child of this run. It records a top-level run if
/// it uses another database, if this run has finished, or if it can't see this process, as from
/// inside a container.
///
/// The program's command line and the process id of `runtrail exec` are stored among the inputs of
/// the run. Keep passwords out of the command line.
#[derive(Args)]
pub(crate) struct Exec {
    /// Id of the run; must be unique [default: a new UUIDv7].
    #[arg(long)]
    id: Option<String>,
    /// Name of the skill, agent or job [default: the program's file name].
    #[arg(long)]
    skill: Option<String>,
    /// Who the program runs for, such as a user or a service.
    #[arg(long, default_value = "", hide_default_value = true)]
    caller: String,
    /// Where the request came from, such as cron, cli or chat.
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
    /// Add KEY to the inputs of the run, with VALUE as text; can be given several times. The keys
    /// `command` and `exec_pid` are reserved.
    #[arg(long = "input", value_name = "KEY=VALUE", value_parser = key_and_value)]
    inputs: Vec<(String, String)>,
    /// Label the run, so that `list --label` finds it; can be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Send SIGTERM to the program after this time.
    ///
    /// In the foreground of a terminal, only the program itself gets the signal. Otherwise, every
    /// process that it has started gets it too; on Linux, even those that have left its process
    /// group.
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    timeout: Option<Duration>,
    /// Send SIGKILL this long after the SIGTERM of --timeout.
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "10s")]
    kill_after: Duration,
    /// Record the run with the status dry_run, whatever its outcome. The program runs as usual.
    ///
    /// `list`, `count` and `export` leave out such runs unless --include-dry-run is given.
    #[arg(long)]
    dry_run_status: bool,
    /// Give the program one pipe for stdout and stderr, as `2>&1` does, so that all lines stay in
    /// order.
    ///
    /// The lines go to stdout, and are events of the type output.
    #[arg(long)]
    merge: bool,
    /// Give the program its own terminal, for colours, progress bars and prompts.
    ///
    /// The output goes to stdout. Its lines are events of the type output, as a person sees them:
    /// without colours, and without text that was overwritten in the same line. The program
    /// receives all keyboard input, ^C included. If stdin is not a terminal, the program inherits
    /// it. The program's terminal has the size of this one, or 80 by 24 if there is none.
    #[arg(long, conflicts_with = "merge")]
    pty: bool,
    /// Record the telemetry of the program, too: agents, model calls, tool calls, tokens and costs.
    ///
    /// The program gets variables that make OpenTelemetry, Claude Code and others send their spans
    /// and logs to this process; Codex gets arguments. Its agents become descendants of this run.
    /// This replaces the endpoint that the environment sets.
    #[arg(long)]
    otel: bool,
    /// With --otel, leave out prompts, answers, and the arguments and results of tools.
    ///
    /// The command line, what the program prints and error messages are recorded all the same.
    #[arg(long, requires = "otel")]
    no_content: bool,
    /// Reserve this amount from every budget that applies to the run, such as 50000tokens or
    /// 2.50usd. If one has too little left, the program isn't started, and the exit code is 5.
    ///
    /// At the end of the program, the budgets count what the run and its descendants have used: the
    /// tokens of their model calls, and their costs, as reported or else by the price list.
    ///
    /// Inside the program of another `exec --budget`, this option reserves nothing if all budgets
    /// that apply to the run also apply to the outer one, whose reservation includes it. If another
    /// budget applies, such as one of the nested skill, the amount is reserved from all of them,
    /// and those that apply to both runs count the nested one twice.
    #[arg(long, value_name = "AMOUNT", value_parser = budget::amount)]
    budget: Option<Amount>,
    #[command(flatten)]
    prices: PriceArguments,
    /// Run the program even if it can't be recorded, and exit with its code even if events are
    /// lost.
    ///
    /// A database that doesn't answer delays the start of the program by at most 1 s, and its end
    /// by about 15 s. Without this option, `exec` doesn't start the program if it can't record
    /// the run, and if events are lost, it exits with 1 instead of 0.
    #[arg(long, conflicts_with = "budget")]
    keep_going: bool,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Exec {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<Exit> {
        // Catch signals before anything is recorded, so that no signal leaves the run unfinished.
        let mut signals = Signals::catch()
            .map_err(|err| Failure::failed(format!("signal handlers can't be installed: {err}")))?;
        processes::adopt_orphans();
        let run_id = match &self.id {
            Some(id) if id.starts_with('@') => {
                let message =
                    "--id must not begin with @, which is reserved for names such as @last";
                return Err(Failure::usage(message));
            }
            Some(id) => id.clone(),
            None => new_run_id(),
        };
        let inherited = Inherited::from_environment();
        let not_run = |failure| Failure::NotRun(Box::new(failure));
        let run = self
            .as_run(&run_id, inherited.parent.clone())
            .map_err(not_run)?;
        let prices = match self.budget {
            Some(_) => Some(self.prices.read().map_err(not_run)?),
            None => None,
        };
        let reservation = self.budget.map(|amount| {
            ReservationRequest::new(new_run_id(), amount.into())
                .caller(&*run.caller_id)
                .skill(&*run.skill_id)
                .channel(&*run.channel_id)
                .run(&*run_id)
        });
        let start = Start {
            database: database.clone(),
            run,
            reservation,
            payers: inherited.payers.clone(),
            owner: this_process(),
            keep_going: self.keep_going,
        };
        let database_environment = match database.environment() {
            Ok(database_environment) => database_environment,
            Err(failure) if self.keep_going => {
                report(failure.in_one_line());
                DatabaseEnvironment::cleared()
            }
            Err(failure) => return Err(not_run(failure)),
        };

        let (recorder, started) = Recorder::new(&run_id, database.clone(), start.store());
        let (recorder, stored) = match self.wait_for(started, &mut signals).await? {
            StartOutcome::Recorded(stored) => (Some(recorder), stored.map(|stored| *stored)),
            StartOutcome::Unrecorded => (None, None),
            StartOutcome::Cancelled(signal) => {
                let name = signal_name(signal);
                note(format!(
                    "error: the program was not started: runtrail received {name}"
                ));
                return Ok(match signal {
                    Signal::INT => Exit::Interrupted,
                    signal => Exit::Code(signal_exit_code(signal.as_raw())),
                });
            }
        };
        let (store, reservation) = match stored {
            Some(stored) => (Some(stored.store), stored.reservation),
            None => (None, None),
        };
        let payer = reservation.as_ref().map(Payer::of);
        let kill_after = self.timeout.map(|_| self.kill_after);
        let mut environment = database_environment.variables.to_vec();
        environment.extend(inherited.variables(&run_id, kill_after, payer));
        let reservation = store.clone().zip(reservation).zip(prices);
        let reservation = reservation.map(|((store, request), prices)| Reservation {
            store,
            request,
            prices,
        });
        let context = TraceContext::of_run(&run_id);
        let telemetry = match store {
            Some(store) => {
                let receiver = self.receive(store, &run_id, &context).await;
                environment.push(context.variable(receiver.is_some()));
                receiver
            }
            // A receiver couldn't relate a span of this run to it.
            None => None,
        };
        if telemetry.is_none() && self.otel {
            report("telemetry is not recorded".to_owned());
        }
        let mut command = self.command.clone();
        if let Some(telemetry) = &telemetry {
            environment.extend(telemetry.variables(&run_id));
            command = telemetry.arguments(&command);
        }
        let program = Program {
            command: &command,
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
            report(format!("{}: {}", program.display(), outcome.error()));
        }
        if let Some(reason) = &outcome.output_lost {
            report(format!("not all of the output was passed on: {reason}"));
        }
        // Meanwhile the outcome of the run itself is stored.
        let telemetry = telemetry.map(|telemetry| tokio::spawn(telemetry.finish()));
        if let Some(recorder) = recorder {
            let status = self.status_of(outcome.status());
            if let Err(loss) = recorder.finish(status, &outcome, &mut signals).await {
                report(format!("run {run_id} is recorded incompletely: {loss}"));
                if exit_code == 0 && !self.keep_going {
                    exit_code = FAILED;
                }
            }
        }
        if let Some(telemetry) = telemetry {
            let wait = match outcome.forwarded_signal {
                None => LAST_TELEMETRY,
                Some(_) => SHORT_TIMEOUT,
            };
            let reason = tokio::select! {
                finished = timeout(wait, telemetry) => match finished {
                    Ok(Ok(Ok(true))) => None,
                    Ok(Ok(Ok(false))) => {
                        report("the program sent no telemetry about agents".to_owned());
                        None
                    }
                    Ok(Ok(Err(err))) => Some(Failure::from(err).in_one_line()),
                    Ok(Err(err)) => Some(err.to_string()),
                    Err(_) => Some("it takes too long".to_owned()),
                },
                received = signals.next_fatal() => {
                    Some(format!("runtrail received {}", signal_name(received.signal)))
                }
            };
            if let Some(reason) = reason {
                report(format!(
                    "the telemetry of run {run_id} is not stored completely: {reason}; \
                    `runtrail serve` stores the rest"
                ));
            }
        }
        if let Some(reservation) = reservation {
            let is_interrupted = outcome.forwarded_signal.is_some();
            if !reservation.settle(&run_id, is_interrupted).await && exit_code == 0 {
                exit_code = FAILED;
            }
        }
        Ok(match outcome.was_interrupted() {
            true => Exit::Interrupted,
            false => Exit::Code(exit_code),
        })
    }

    /// Waits until the start of the run is stored; with --keep-going for at most [`SHORT_TIMEOUT`].
    /// A signal ends the wait.
    async fn wait_for(&self, mut started: Started, signals: &mut Signals) -> Result<StartOutcome> {
        let started = tokio::select! {
            started = &mut started => started,
            () = sleep(SHORT_TIMEOUT), if self.keep_going => {
                // The result may have just arrived. If the start fails later, the recorder reports
                // it.
                started.close();
                match started.try_recv() {
                    Ok(started) => Ok(started),
                    Err(_) => return Ok(StartOutcome::Recorded(None)),
                }
            }
            received = signals.next_fatal() => {
                // The program won't run. But if the start of the run is being stored right now, the
                // run must be finished.
                signals.put_back(received);
                match timeout(SHORT_TIMEOUT, &mut started).await {
                    Ok(started) => started,
                    Err(_) => return Ok(StartOutcome::Cancelled(received.signal)),
                }
            }
        };
        match started {
            Ok(Ok(stored)) => Ok(StartOutcome::Recorded(Some(Box::new(stored)))),
            Ok(Err(failure)) if self.keep_going && failure.is_about_database() => {
                report_unrecorded(&failure);
                Ok(StartOutcome::Unrecorded)
            }
            Ok(Err(failure)) => Err(Failure::NotRun(Box::new(failure))),
            Err(err) => Err(Failure::failed(format!("the recorder failed: {err}"))),
        }
    }

    /// Starts a receiver for the telemetry of the program, if it is wanted. Otherwise, another
    /// receiver on the same database may get it, and has to know the span of this run.
    async fn receive(
        &self,
        store: AuditStore,
        run_id: &str,
        context: &TraceContext,
    ) -> Option<Telemetry> {
        let host_run = context.host_run(run_id);
        if !self.otel {
            if context.is_inherited() || telemetry::is_sent_elsewhere() {
                let announced = host_run.announce(&store, &SystemClock);
                // Without it, the telemetry isn't related to this run.
                let _ = timeout(SHORT_TIMEOUT, announced).await;
            }
            return None;
        }
        match Telemetry::start(store, host_run, !self.no_content).await {
            Ok(telemetry) => Some(telemetry),
            Err(err) => {
                report(format!("no port for telemetry can be opened: {err}"));
                None
            }
        }
    }

    /// Returns the run to store at the start.
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
                    "the input {key:?} is given twice, or is reserved for exec"
                )));
            }
        }
        let mut run = SkillRun::new(run_id, self.skill(), SystemClock.now())
            .caller(&*self.caller)
            .channel(&*self.channel)
            .inputs(inputs)
            .status(self.status_of(RunStatus::RUNNING));
        run.parent_run_id = parent;
        for (key, value) in &self.labels {
            if run.labels.insert(key.clone(), value.clone()).is_some() {
                return Err(Failure::usage(format!("the label {key} is given twice")));
            }
        }
        if let Err(err) = rules::labels(&run.labels) {
            return Err(Failure::usage(err.to_string()));
        }
        Ok(run)
    }

    /// Applies `--dry-run-status`.
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

    /// Returns the file name of the program.
    fn program(&self) -> String {
        let program = self.command.first().map(Path::new);
        let name = program.map(|path| path.file_name().unwrap_or(path.as_os_str()));
        name.unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Whether the program is to run, and is recorded.
enum StartOutcome {
    /// The start is stored, or still being stored.
    Recorded(Option<Box<Stored>>),
    Unrecorded,
    /// A signal arrived before the program was started.
    Cancelled(Signal),
}

/// Prints a message on stderr, marked as `runtrail`'s own and not the program's.
fn report(message: String) {
    note(format!("runtrail: {message}"));
}

/// The owner of the run: this process of `runtrail`.
fn this_process() -> Owner {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let label = format!("process {} on {host}", std::process::id());
    Owner::new(as_identifier(label))
}

/// Cuts a name to the length of an identifier.
fn as_identifier(mut name: String) -> String {
    let end = name.floor_char_boundary(rules::MAX_IDENTIFIER_BYTES);
    name.truncate(end);
    name
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
