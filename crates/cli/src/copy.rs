use std::io::Write;

use clap::Args;
use indicatif::ProgressBar;
use runtrail::copy::{CopySummary, HistoryCopy, LegacyStore, Notice, PassSummary, Source, Tally};
use runtrail::{AuditStore, DatabaseOptions, Error, SchemaName, Storage};

use crate::database::{self, DatabaseArguments};
use crate::failure::{Failure, Result};
use crate::output::{self, counted, progress};
use crate::warnings::note;

/// Copy all runs and events into another database; with --verify or --final, make sure that it has them.
///
/// The source may be written to meanwhile: copy again, as often as you like, to carry over what has come since. Then
/// stop its program, `copy --final`, and give the program the URL of the target.
/// Ended at any moment, it writes the rest when it is run again.
/// A row that the target has with other content is left alone and listed, and the command fails.
/// DATABASE_URL and DATABASE_SCHEMA play no part in it.
#[derive(Args)]
pub(crate) struct Copy {
    /// The database to copy from. `legacy+sqlite://FILE` is one of the Go store whose design Runtrail follows.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The database to copy to. Its tables are made, and so is a SQLite file.
    #[arg(long, value_name = "URL")]
    to: String,
    /// The PostgreSQL schema to copy from [default: the first one of the search_path].
    #[arg(long, value_name = "SCHEMA")]
    from_schema: Option<SchemaName>,
    /// The PostgreSQL schema to copy to; it must exist [default: the first one of the search_path].
    #[arg(long, value_name = "SCHEMA")]
    to_schema: Option<SchemaName>,
    /// The last copy, once nothing writes to the source any more: fail if anything is missing, and verify.
    #[arg(long = "final")]
    is_final: bool,
    /// Compare every row of both sides afterwards, and fail if any differs [default with --final].
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
        let (from, to) = (self.from.as_str(), self.to.as_str());
        let legacy = from.strip_prefix(LegacyStore::URL_PREFIX);
        let is_same = DatabaseOptions::new(legacy.unwrap_or(from))
            .is_same_database(&DatabaseOptions::new(to))
            && self.from_schema == self.to_schema;
        if is_same {
            return Err(Failure::usage("--from and --to are the same database"));
        }
        let source = open_source(database, &self.from, self.from_schema).await?;
        let target = open_target(database, &self.to, self.to_schema).await?;
        let mut copy = HistoryCopy::new(source.clone(), target.clone());
        if self.is_final {
            copy = copy.last();
        }
        if self.verify {
            copy = copy.verified();
        }
        if self.no_verify {
            copy = copy.unverified();
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
        for difference in &summary.counts {
            note(difference);
        }
        match summary.shortfall() {
            None => Ok(()),
            Some(shortfall) => Err(Failure::failed(format!(
                "not everything is the same: {shortfall}"
            ))),
        }
    }
}

async fn open_source(
    database: &DatabaseArguments,
    url: &str,
    schema: Option<SchemaName>,
) -> Result<Source> {
    if let Some(url) = url.strip_prefix(LegacyStore::URL_PREFIX) {
        let opened = LegacyStore::connect(url).await;
        return Ok(opened.map_err(|err| database::opening(url, err))?.into());
    }
    let options = DatabaseOptions::new(url);
    let opened = async {
        let store = database::connect(options.clone().read_only(), schema).await?;
        let store = database.adapted(store);
        store.verify_schema().await?;
        Ok(store)
    };
    match opened.await {
        Ok(store) => Ok(store.into()),
        Err(Error::SchemaForeign { .. } | Error::SchemaIncomplete { .. })
            if options.is_sqlite() =>
        {
            Err(Failure::usage(format!(
                "{options} holds no history of Runtrail's; --from {}sqlite://FILE copies from the Go store",
                LegacyStore::URL_PREFIX
            )))
        }
        Err(Error::SchemaMissing) => Err(Failure::failed(format!(
            "{options} holds no history: is it the right database, and the right schema?"
        ))),
        Err(err) => Err(database::opening(url, err)),
    }
}

async fn open_target(
    database: &DatabaseArguments,
    url: &str,
    schema: Option<SchemaName>,
) -> Result<AuditStore> {
    let url = database::created_on_first_use(url);
    let opened = async {
        let store = database.adapted(database::connect(url.as_str(), schema).await?);
        store.initialize().await?;
        Ok(store)
    };
    opened.await.map_err(|err| database::opening(&url, err))
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
            bar.set_message(match is_verification {
                true => "verifying",
                false => "copying",
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
    if runs.same + events.same > 0 {
        let same = rows(&summary.copied, |tally| tally.same);
        writeln!(out, "there already: {same}")?;
    }
    if runs.behind + events.behind > 0 {
        let behind = rows(&summary.copied, |tally| tally.behind);
        writeln!(out, "came meanwhile, for another copy: {behind}")?;
    }
    let read = summary.verified.as_ref().unwrap_or(&summary.copied);
    if read.events.orphans > 0 {
        let orphans = counted(read.events.orphans, "event");
        writeln!(out, "left out {orphans} without a run")?;
    }
    if read.runs.adapted + read.events.adapted > 0 {
        writeln!(out, "adapted {}", rows(read, |tally| tally.adapted))?;
    }
    if let Some(verified) = &summary.verified {
        writeln!(out, "compared {}", rows(verified, |tally| tally.read))?;
        writeln!(out, "source {}", verified.source)?;
        writeln!(out, "target {}", verified.target)?;
    }
    Ok(())
}

fn rows(pass: &PassSummary, count: fn(&Tally) -> u64) -> String {
    let runs = counted(count(&pass.runs), "run");
    format!("{runs} and {}", counted(count(&pass.events), "event"))
}
