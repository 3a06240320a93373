//! Running a program as a recorded run.
//!
//! The program's stdout and stderr are pipes that two threads read: what comes is passed on at once, split into
//! events, and handed to the recorder over a bounded channel. When the database is slower than the program, the
//! channel fills, the threads wait, and so does the program: memory stays bounded, and nothing is left out.

mod outcome;
mod pieces;
mod program;
mod pump;
mod recorder;
mod signals;
mod target;

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use runtrail_store::AuditStore;
use runtrail_store::audit::{Error, RunStatus, SkillRun, Storage, rules};
use serde_json::{Map, Value};
use uuid::Uuid;

use self::outcome::Ending;
use self::program::Program;
use self::recorder::Recorder;
use self::signals::Signals;
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};
use crate::time;
use crate::warnings::note;

/// What tells a program within a run which run that is; a `runtrail exec` in there becomes its child.
const RUN_ID: &str = "RUNTRAIL_RUN_ID";

/// What tells a `runtrail exec` within a run how many milliseconds after SIGTERM it has to kill its program, if it is
/// to finish its own run before it is killed itself.
const GRACE: &str = "RUNTRAIL_KILL_AFTER_MS";

/// The member of the inputs that holds the command line.
const COMMAND: &str = "command";

/// Run a program and record it: each line that it prints is an event of the run.
///
/// What it prints is passed on unchanged and at once, and so is its exit code: 128 + N if signal N has killed it,
/// 124 after a timeout, 127 if there is no such program, 126 if it can't be run.
#[derive(Args)]
pub(crate) struct Exec {
    /// The id of the run; a new UUIDv7 by default.
    #[arg(long)]
    id: Option<String>,
    /// What runs; the program's name by default.
    #[arg(long)]
    skill: Option<String>,
    /// For whom it runs.
    #[arg(long, default_value = "", hide_default_value = true)]
    caller: String,
    /// Where it was asked for.
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
    /// An input of the run, as text; they also hold the command line, as `command`. Can be given several times.
    #[arg(long = "input", value_name = "KEY=VALUE", value_parser = key_and_value)]
    inputs: Vec<(String, String)>,
    /// Ends the program after this long, with SIGTERM.
    ///
    /// On a terminal only the program itself, and otherwise whatever it has started as well.
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    timeout: Option<Duration>,
    /// After a timeout, how long the program has until SIGKILL follows.
    #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "10s")]
    kill_after: Duration,
    /// Records a dry run, which lists leave out unless they are asked for it.
    #[arg(long)]
    dry_run_status: bool,
    /// Runs the program even when it can't be recorded, and passes on its exit code all the same.
    ///
    /// Without it nothing is run when the run can't be recorded, and a run of which something is lost on the way
    /// gives exit code 1 unless the program's own says that it has failed.
    #[arg(long)]
    keep_going: bool,
    /// The program and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

impl Exec {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<ExitCode> {
        // Before anything is recorded: from here on no signal leaves the run unfinished.
        let signals = Signals::catch()
            .map_err(|err| Failure::failed(format!("signals can't be caught: {err}")))?;
        let run_id = match &self.id {
            Some(id) => id.clone(),
            None => Uuid::now_v7().to_string(),
        };
        let recorder = match self.start(database, &run_id).await {
            Ok(store) => Some(Recorder::new(store, &run_id)),
            Err(failure) if self.keep_going && failure.is_out_of_reach() => {
                note(format!(
                    "runtrail: this run is not recorded: {}",
                    failure.in_one_line()
                ));
                None
            }
            Err(failure) => return Err(Failure::NotRun(Box::new(failure))),
        };

        let mut environment = vec![(RUN_ID, Some(run_id.clone()))];
        environment.extend(database.environment()?);
        let kill_after_term = inherited_grace();
        // Half of what we have ourselves, so that one that is recorded in there can finish its run in time.
        if let Some(grace) = self.timeout.map(|_| self.kill_after).or(kill_after_term) {
            environment.push((GRACE, Some((grace / 2).as_millis().to_string())));
        }
        let program = Program {
            command: &self.command,
            environment,
            timeout: self.timeout,
            kill_after: self.kill_after,
            kill_after_term,
        };
        let outcome = program
            .run(recorder.as_ref().map(Recorder::events), signals)
            .await;
        let mut exit_code = outcome.exit_code();
        match &outcome.ending {
            Ending::Exited(_) => {}
            Ending::Unknown(_) | Ending::NotRun(_) | Ending::Forestalled(_) => {
                note(format!("runtrail: {}: {}", self.program(), outcome.error()));
            }
        }
        if let Some(reason) = &outcome.output_lost {
            note(format!(
                "runtrail: the output was not passed on to its end: {reason}"
            ));
        }
        if let Some(recorder) = recorder {
            let status = match self.dry_run_status {
                true => RunStatus::DRY_RUN,
                false => outcome.status(),
            };
            if let Err(loss) = recorder.finish(status, &outcome).await {
                note(format!(
                    "runtrail: run {run_id} is recorded incompletely: {loss}"
                ));
                if exit_code == 0 && !self.keep_going {
                    exit_code = 1;
                }
            }
        }
        Ok(exit_code.into())
    }

    /// Records that the run starts.
    async fn start(&self, database: &DatabaseArguments, run_id: &str) -> Result<AuditStore> {
        let mut inputs = Map::new();
        let command = self
            .command
            .iter()
            .map(|word| word.to_string_lossy().into());
        inputs.insert(COMMAND.to_owned(), Value::Array(command.collect()));
        for (key, value) in &self.inputs {
            if inputs.insert(key.clone(), value.as_str().into()).is_some() {
                return Err(Failure::usage(format!(
                    "the input {key:?} is given twice, or kept for the command line"
                )));
            }
        }
        let store = database.open().await?;
        let run = SkillRun {
            caller_id: self.caller.clone(),
            channel_id: self.channel.clone(),
            parent_run_id: env::var(RUN_ID).ok().filter(|id| !id.is_empty()),
            inputs,
            status: match self.dry_run_status {
                true => RunStatus::DRY_RUN,
                false => RunStatus::RUNNING,
            },
            ..SkillRun::new(run_id, self.skill(), store.now())
        };
        if self.id.is_some() {
            // To start a run that is running would be taken for another try of the same start.
            match store.get_run(run_id).await {
                Err(Error::NotFound { .. }) => {}
                Err(err) => return Err(err.into()),
                Ok(_) => {
                    return Err(Failure::failed(format!(
                        "there is a run {run_id:?} already; give another --id"
                    )));
                }
            }
        }
        store.start_run(&run).await?;
        Ok(store)
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

fn inherited_grace() -> Option<Duration> {
    let milliseconds = env::var(GRACE).ok()?.parse().ok()?;
    Some(Duration::from_millis(milliseconds))
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
