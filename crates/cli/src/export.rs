use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::{Stream, StreamExt};
use runtrail::{
    AuditStore, BulkStorage, Error, ListOrder, LogFilter, Page, PagedStorage,
    Result as StoreResult, RunQuery, RunStatus, SkillRun, rules,
};

use self::otlp::OtlpArguments;
use self::replacement::Replacement;
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};
use crate::filter::FilterArguments;
use crate::output::{self, counted, progress};
use crate::transfer::{EVENTS, Event};
use crate::warnings::{note, warn_damaged};

mod destination;
mod endpoint;
mod otlp;
mod replacement;

/// Export runs with their events as lines of JSON, or as OpenTelemetry traces, oldest first.
#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    filter: FilterArguments,
    /// The file to write [default: stdout]. An existing file is replaced once the export is
    /// complete.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    otlp: OtlpArguments,
}

#[derive(Default)]
struct Exported {
    runs: u64,
    events: u64,
    damaged: u64,
}

impl Export {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let traces = self.otlp.destination()?;
        let store = database.open_to_read().await?;
        let query = self.filter.resolve(store.now());
        if let Some(destination) = traces {
            let damaged = otlp::export(&store, &query, destination).await?;
            note_dry_runs(&store, query).await?;
            return all_exported(damaged);
        }
        let exported = match &self.output {
            None => {
                let mut out = output::plain();
                let exported = write_runs(&store, &query, &mut out).await?;
                output::finish(out)?;
                exported
            }
            Some(path) => {
                let cannot_write = |err| write_failure(path, &err);
                let mut file = Replacement::of(path).map_err(cannot_write)?;
                let exported = write_runs(&store, &query, file.writer()).await?;
                file.complete().map_err(cannot_write)?;
                exported
            }
        };

        let Exported {
            runs,
            events,
            damaged,
        } = exported;
        note(format!(
            "exported {} with {}",
            counted(runs, "run"),
            counted(events, "event")
        ));
        note_dry_runs(&store, query).await?;
        all_exported(damaged)
    }
}

/// Reports the dry runs that match but were left out.
async fn note_dry_runs(store: &AuditStore, query: RunQuery) -> Result<()> {
    if query.include_dry_run || query.statuses.only.is_some() {
        return Ok(());
    }
    let dry_runs = query.statuses([RunStatus::DRY_RUN]).include_dry_run();
    let left_out = store.count_runs_by_query(&dry_runs).await?;
    if left_out > 0 {
        let left_out = counted(left_out, "dry run");
        note(format!(
            "left out {left_out}; --include-dry-run exports dry runs too"
        ));
    }
    Ok(())
}

/// Fails if damaged rows were left out.
fn all_exported(damaged: u64) -> Result<()> {
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::failed(format!(
            "{} could not be exported; all other rows were exported",
            counted(damaged, "damaged row")
        ))),
    }
}

async fn write_runs(
    store: &AuditStore,
    query: &RunQuery,
    out: &mut (impl Write + Send + ?Sized),
) -> Result<Exported> {
    let bar = progress(store.count_runs_by_query(query).await?, "{pos}/{len} runs");
    let mut exported = Exported::default();
    let mut runs = store.stream_runs_by_query(query, ListOrder::OldestFirst, Page::ALL);
    while let Some(run) = next_readable(&mut runs, &mut exported.damaged).await? {
        // No query accepts such an id, and neither does an import.
        if let Err(err) = rules::run_id("id", &run.id) {
            warn_damaged(&err);
            exported.damaged += 1;
            continue;
        }
        write_run(store, &run, out, &mut exported).await?;
        exported.runs += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(exported)
}

async fn write_run(
    store: &AuditStore,
    run: &SkillRun,
    out: &mut (impl Write + Send + ?Sized),
    exported: &mut Exported,
) -> Result<()> {
    let fields = serde_json::to_string(run).map_err(io::Error::from)?;
    // The events are streamed into the object, before its closing brace.
    write!(
        out,
        "{},\"{EVENTS}\":[",
        fields.strip_suffix('}').unwrap_or(&fields)
    )?;
    let mut events = store.stream_logs(&run.id, &LogFilter::new(), ListOrder::OldestFirst);
    let mut separator = "";
    while let Some(event) = next_readable(&mut events, &mut exported.damaged).await? {
        write!(out, "{separator}")?;
        serde_json::to_writer(&mut *out, &Event::of(event)).map_err(io::Error::from)?;
        separator = ",";
        exported.events += 1;
    }
    writeln!(out, "]}}")?;
    Ok(())
}

/// Returns the next readable record. Reports and counts damaged ones.
async fn next_readable<T>(
    records: &mut (impl Stream<Item = StoreResult<T>> + Unpin),
    count: &mut u64,
) -> StoreResult<Option<T>> {
    loop {
        match records.next().await.transpose() {
            Err(err @ Error::Corrupt { .. }) => {
                warn_damaged(&err);
                *count += 1;
            }
            next => return next,
        }
    }
}

fn write_failure(path: &Path, err: &io::Error) -> Failure {
    Failure::failed(format!("{} can't be written: {err}", path.display()))
}
