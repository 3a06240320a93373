use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::Args;
use runtrail::{AuditStore, BulkStorage, Clock, Error, ErrorKind, RunLabels, SkillRun, Storage};
use tempfile::SpooledTempFile;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use self::format::{BYTE_ORDER_MARK, other_format};
use self::line::Line;
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};
use crate::output::{counted, progress};
use crate::warnings::note;

mod bounded;
mod format;
mod line;
mod measured;
mod numbers;

/// The largest batch of events. It is small, since each event may be large.
const MAX_BATCH_EVENTS: usize = 64;

/// A line with more bytes than this is buffered on disk while it is imported.
const MAX_LINE_IN_MEMORY: usize = 8 << 20;

/// How many bad lines are reported one by one. In a file that isn't an export, every line is bad.
const MAX_REPORTED: u64 = 100;
const FIRST_UNREPORTED: u64 = MAX_REPORTED + 1;

/// Import runs with their events from a file that `export` has written.
///
/// Existing records don't change and count as imported, so an import can be repeated. A line that
/// can't be imported is skipped, and the exit code is 1. The first 100 such lines are reported with
/// their numbers.
#[derive(Args)]
pub(crate) struct Import {
    /// The file to read; - is stdin.
    file: PathBuf,
}

impl Import {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let name = self.file.display().to_string();
        let cannot_read = |err| Failure::failed(format!("{name} can't be read: {err}"));
        let (mut input, size) = self.open().map_err(cannot_read)?;
        let beginning = input.fill_buf().map_err(cannot_read)?;
        if let Some((what, unpack)) = other_format(beginning) {
            return Err(Failure::failed(format!(
                "{name} is {what}, not lines of JSON; use `{unpack} FILE | runtrail import -`"
            )));
        }
        let store = database.open().await?;

        let bar = progress(size, "{bytes}/{total_bytes}");
        let (mut runs, mut events, mut bad) = (0, 0, 0);
        for number in 1_u64.. {
            let mut line = SpooledTempFile::new(MAX_LINE_IN_MEMORY);
            let length = next_line(&mut input, &mut line).map_err(|err| match err {
                LineError::Input(err) => {
                    Failure::failed(format!("{name} can't be read at line {number}: {err}"))
                }
                LineError::Temporary(err) => Failure::failed(format!(
                    "line {number} doesn't fit into memory, and no temporary file can be written \
                     in {}: {err}; set TMPDIR to a folder with free space",
                    env::temp_dir().display()
                )),
            })?;
            if length == 0 {
                break;
            }
            bar.inc(length);
            match import_line(&store, line).await {
                Ok(Some(stored_events)) => {
                    runs += 1;
                    events += stored_events;
                }
                // A blank line.
                Ok(None) => {}
                Err(Refusal::Line(reason)) => {
                    bad += 1;
                    match bad {
                        ..=MAX_REPORTED => bar.suspend(|| note(format!("line {number}: {reason}"))),
                        FIRST_UNREPORTED => {
                            bar.suspend(|| {
                                note("more lines can't be imported; they are only counted")
                            });
                        }
                        _ => {}
                    }
                }
                Err(Refusal::Database(err)) => {
                    note(format!(
                        "stopped at line {number}; import the file again to complete it"
                    ));
                    return Err(err.into());
                }
            }
        }
        bar.finish_and_clear();
        note(format!(
            "imported {} with {}",
            counted(runs, "run"),
            counted(events, "event")
        ));
        if bad > 0 {
            return Err(Failure::failed(format!(
                "{} could not be imported",
                counted(bad, "line")
            )));
        }
        Ok(())
    }

    fn open(&self) -> io::Result<(Box<dyn BufRead + Send>, u64)> {
        if self.file.as_os_str() == "-" {
            return Ok((Box::new(BufReader::new(io::stdin())), 0));
        }
        let file = File::open(&self.file)?;
        let size = file.metadata()?.len();
        Ok((Box::new(BufReader::new(file)), size))
    }
}

/// Why a line is not imported.
enum Refusal {
    /// The line is bad. The import continues with the next one.
    Line(String),
    /// The database failed. The import stops.
    Database(Error),
}

impl From<Error> for Refusal {
    fn from(err: Error) -> Self {
        match err.kind() {
            ErrorKind::InvalidInput
            | ErrorKind::TooLarge
            | ErrorKind::RunFinished
            | ErrorKind::Conflict
            | ErrorKind::Corrupt
            | ErrorKind::NotFound => Self::Line(err.to_string()),
            _ => Self::Database(err),
        }
    }
}

/// Why [`next_line`] failed.
enum LineError {
    Input(io::Error),
    Temporary(io::Error),
}

/// Copies a line without buffering it in memory. Returns its length in bytes, 0 at the end of the
/// input.
fn next_line(input: &mut dyn BufRead, line: &mut SpooledTempFile) -> Result<u64, LineError> {
    let mut length = 0;
    loop {
        let available = input.fill_buf().map_err(LineError::Input)?;
        let end = memchr::memchr(b'\n', available);
        let consumed = end.map_or(available.len(), |end| end + 1);
        line.write_all(&available[..end.unwrap_or(consumed)])
            .map_err(LineError::Temporary)?;
        input.consume(consumed);
        length += consumed as u64;
        if end.is_some() || consumed == 0 {
            line.rewind().map_err(LineError::Temporary)?;
            return Ok(length);
        }
    }
}

/// Imports a run with its events, and returns the number of events.
///
/// Reads the line twice: nothing is stored unless the whole line is well-formed.
async fn import_line(
    store: &AuditStore,
    mut line: SpooledTempFile,
) -> Result<Option<u64>, Refusal> {
    if begins_with_byte_order_mark(&mut line) {
        let reason = "begins with a byte order mark (EF BB BF), which is not JSON; remove it";
        return Err(Refusal::Line(reason.to_owned()));
    }
    let checked = spawn_blocking(|| Line::check(line)).await;
    let Some((run, line)) = checked.map_err(|err| Refusal::Line(err.to_string()))?? else {
        return Ok(None);
    };
    import_run(store, &run).await?;

    let (sender, mut receiver) = mpsc::channel(1);
    let run_id = run.id;
    let reading = spawn_blocking(move || line.events(&run_id, sender));
    let mut stored = 0;
    let mut refused = Ok(());
    while let Some(events) = receiver.recv().await {
        match store.append_logs(&events).await {
            Ok(()) => stored += events.len() as u64,
            // Store the other batches too, so that the result doesn't depend on how events are
            // batched.
            Err(err @ Error::Conflict { .. }) => refused = refused.and(Err(err)),
            Err(err) => return Err(err.into()),
        }
    }
    reading
        .await
        .map_err(|err| Refusal::Line(err.to_string()))??;
    refused?;
    Ok(Some(stored))
}

fn begins_with_byte_order_mark(line: &mut SpooledTempFile) -> bool {
    let mut beginning = [0; BYTE_ORDER_MARK.len()];
    line.read_exact(&mut beginning).is_ok() && beginning == BYTE_ORDER_MARK
}

/// Stores a run, finished at the time that the line gives.
async fn import_run(store: &AuditStore, run: &SkillRun) -> Result<(), Refusal> {
    match store.get_run(&run.id).await {
        Ok(stored) if stored.is_running() => {
            // `start_run` would change it.
            if !run.is_same_start(&stored) {
                return Err(Refusal::Line(format!(
                    "run {:?} is running, and its start differs from that in the line",
                    run.id
                )));
            }
            add_labels(store, run, &stored).await?;
        }
        Ok(stored) => {
            // `start_run` refuses labels that the finished run doesn't have.
            let mut unlabelled = run.clone();
            unlabelled.labels.clear();
            store.start_run(&unlabelled).await?;
            return add_labels(store, run, &stored).await;
        }
        Err(Error::NotFound { .. }) => {
            store.start_run(run).await?;
            let is_left_running =
                run.finished_at.is_some() && store.get_run(&run.id).await?.is_running();
            if is_left_running {
                // Another process has started the run since the check, so `start_run` has ignored
                // the outcome.
                return Err(Refusal::Line(format!(
                    "run {:?} is being recorded by another process",
                    run.id
                )));
            }
            return Ok(());
        }
        Err(err) => return Err(err.into()),
    }
    if let Some(finished_at) = run.finished_at {
        let clock = Arc::new(FixedClock(finished_at));
        let store = store.clone().with_clock(clock);
        store.finish_run(&run.id, &run.stats()).await?;
    }
    Ok(())
}

/// Adds the labels that a stored run lacks; refuses a label that has another value there.
async fn add_labels(store: &AuditStore, run: &SkillRun, stored: &SkillRun) -> Result<(), Refusal> {
    for (key, value) in &run.labels {
        if let Some(other) = stored.labels.get(key).filter(|other| *other != value) {
            return Err(Refusal::Line(format!(
                "run {:?} has the label {key}={other:?}, not {value:?}",
                run.id
            )));
        }
    }
    Ok(store.add_labels(&run.id, &run.labels).await?)
}

/// A clock that always returns the same time.
#[derive(Debug)]
struct FixedClock(DateTime<Utc>);

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}
