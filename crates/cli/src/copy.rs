use std::io::Write;

use clap::Args;
use indicatif::ProgressBar;
use runtrail_store::audit::{Error, Storage};
use runtrail_store::copy::{
    CopySummary, HistoryCopy, LegacyStore, Notice, PassSummary, Source, Tally,
};
use runtrail_store::{AuditStore, SchemaName};

use crate::database::{self, DatabaseArguments};
use crate::failure::{Failure, Result};
use crate::output::{self, counted, progress};
use crate::warnings::note;

/// Copy all runs and events into another database, and verify that it has them.
///
/// The source may be written to meanwhile: copy again, as often as you like, to carry over what has come since. Then
/// stop its program, `copy --final`, and give the program the URL of the target.
/// Ended at any moment, it goes on where it was when it is run again.
/// A row that the target has with other content is left as it is and told, and makes the command fail.
#[derive(Args)]
pub(crate) struct Copy {
    /// The database to copy from; `legacy+sqlite://FILE` is one of the older store.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The database to copy to; it is created (SQLite) and migrated.
    #[arg(long, value_name = "URL")]
    to: String,
    /// The PostgreSQL schema to copy from [default: the first one of the search_path].
    #[arg(long, value_name = "SCHEMA")]
    from_schema: Option<SchemaName>,
    /// The PostgreSQL schema to copy to [default: the first one of the search_path].
    #[arg(long, value_name = "SCHEMA")]
    to_schema: Option<SchemaName>,
    /// The last pass, once nothing writes to the source any more: verify, and fail if anything is missing.
    #[arg(long = "final")]
    is_final: bool,
    /// Compare every row of both sides afterwards [default with --final].
    #[arg(long)]
    verify: bool,
    /// Compare nothing afterwards.
    #[arg(long, conflicts_with = "verify")]
    no_verify: bool,
}

impl Copy {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        if database.is_given() {
            let message = "copy goes from one database to another: --from and --to name them";
            return Err(Failure::usage(message));
        }
        if (&self.from, &self.from_schema) == (&self.to, &self.to_schema) {
            return Err(Failure::usage("--from and --to are the same database"));
        }
        let source = open_source(&self.from, self.from_schema).await?;
        let target = open_target(&self.to, self.to_schema).await?;
        let mut copy = HistoryCopy::new(source.clone(), target.clone());
        if self.is_final {
            copy = copy.last();
        }
        if self.verify || self.no_verify {
            copy = copy.verified(self.verify);
        }

        let bar = progress(0, "{msg} {pos}/{len} rows {per_sec}");
        let summary = copy.run(&|notice| tell(&bar, notice)).await;
        bar.finish_and_clear();
        let summary = summary?;
        // So that a SQLite file stands alone.
        source.close().await?;
        target.close().await?;

        let mut out = output::plain();
        describe(&mut out, &summary)?;
        output::finish(out)?;
        if summary.is_complete() {
            Ok(())
        } else {
            Err(Failure::failed(incompleteness(&summary)))
        }
    }
}

async fn open_source(url: &str, schema: Option<SchemaName>) -> Result<Source> {
    if let Some(url) = url.strip_prefix(LegacyStore::URL_PREFIX) {
        let opened = LegacyStore::connect(url).await;
        return Ok(opened
            .map_err(|source| database::opening(url, source))?
            .into());
    }
    let opened = async {
        let store = connect(url, schema).await?;
        store.verify_schema().await?;
        Ok(store)
    };
    match opened.await {
        Ok(store) => Ok(store.into()),
        Err(err @ Error::SchemaForeign { .. }) => Err(Failure::usage(format!(
            "{err}; a database of the older store is read with --from {}sqlite://FILE",
            LegacyStore::URL_PREFIX
        ))),
        Err(err) => Err(database::opening(url, err)),
    }
}

async fn open_target(url: &str, schema: Option<SchemaName>) -> Result<AuditStore> {
    let url = database::created_on_first_use(url);
    let opened = async {
        let store = connect(&url, schema).await?;
        store.initialize().await?;
        Ok(store)
    };
    opened.await.map_err(|err| database::opening(&url, err))
}

async fn connect(url: &str, schema: Option<SchemaName>) -> Result<AuditStore, Error> {
    let store = AuditStore::connect(url).await?;
    Ok(match schema {
        Some(schema) => store.in_schema(schema),
        None => store,
    })
}

fn tell(bar: &ProgressBar, notice: Notice) {
    match notice {
        Notice::Begun {
            is_verification,
            runs,
            events,
        } => {
            bar.reset();
            bar.set_length(runs + events);
            bar.set_message(if is_verification {
                "verifying"
            } else {
                "copying"
            });
        }
        Notice::Read { runs, events } => bar.inc(runs + events),
        Notice::Difference(difference) => bar.suspend(|| note(difference)),
        _ => {}
    }
}

fn describe(out: &mut impl Write, summary: &CopySummary) -> Result<()> {
    let PassSummary { runs, events, .. } = summary.copied;
    writeln!(
        out,
        "copied {}",
        rows(&summary.copied, |tally| tally.copied)
    )?;
    if runs.finished > 0 {
        writeln!(out, "finished {}", counted(runs.finished, "run"))?;
    }
    let same = |tally: &Tally| tally.same;
    if same(&runs) + same(&events) > 0 {
        writeln!(out, "there already: {}", rows(&summary.copied, same))?;
    }
    let read = summary.verified.as_ref().unwrap_or(&summary.copied);
    if read.events.orphans > 0 {
        let orphans = counted(read.events.orphans, "event");
        writeln!(out, "left out {orphans} without a run")?;
    }
    if read.runs.adapted + read.events.adapted > 0 {
        writeln!(out, "adapted {}", rows(read, |tally| tally.adapted))?;
    }
    if !summary.is_last && runs.behind + events.behind > 0 {
        let behind = rows(&summary.copied, |tally| tally.behind);
        writeln!(out, "came meanwhile, for the next copy: {behind}")?;
    }
    if let Some(verified) = &summary.verified {
        writeln!(out, "verified {}", rows(verified, |tally| tally.read))?;
        writeln!(out, "source {}", verified.source)?;
        writeln!(out, "target {}", verified.target)?;
    }
    Ok(())
}

fn rows(pass: &PassSummary, count: fn(&Tally) -> u64) -> String {
    let runs = counted(count(&pass.runs), "run");
    format!("{runs} and {}", counted(count(&pass.events), "event"))
}

/// What keeps the target from having all that the source has; each row has been told.
fn incompleteness(summary: &CopySummary) -> String {
    for difference in &summary.counts {
        note(difference);
    }
    let pass = summary.verified.as_ref().unwrap_or(&summary.copied);
    let both = |count: fn(&Tally) -> u64| count(&pass.runs) + count(&pass.events);
    // What counts; see CopySummary::is_complete.
    let behind = u64::from(summary.is_last) * both(|tally| tally.behind);
    let extra = u64::from(summary.verified.is_some()) * both(|tally| tally.extra);
    let counts = [
        ("with other content", both(|tally| tally.conflicts)),
        ("not to be copied", both(|tally| tally.refused)),
        ("missing", behind),
        ("only in the target", extra),
    ];
    let mut message = "the target isn't the same as the source".to_owned();
    let mut separator = ": rows ";
    for (what, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        message += &format!("{separator}{what}: {}", output::count(count));
        separator = ", ";
    }
    message
}
