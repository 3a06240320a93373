use std::io::Write;

use clap::Args;
use indicatif::ProgressBar;
use runtrail::copy::{CopySummary, HistoryCopy, LegacyStore, Notice, PassSummary, Source, Tally};
use runtrail::{AuditStore, DatabaseOptions, Error, SchemaName, Storage};

use crate::database::{self, DatabaseArguments};
use crate::failure::{Failure, Result};
use crate::output::{self, counted, progress};
use crate::warnings::note;

/// Copy all runs, events and budgets to another database; --verify and --final also compare them.
///
/// To move to another database: copy while programs still write to the source, as often as you
/// like; each copy adds what is new. Then stop the programs, run `copy --final`, and give the
/// programs the URL of the target.
///
/// Repeat an interrupted copy: it writes the rest, and finishes runs that have finished since. If a
/// row differs in any other way, the copy leaves the target's row unchanged, lists it, and fails.
///
/// DATABASE_URL and DATABASE_SCHEMA are ignored.
#[derive(Args)]
pub(crate) struct Copy {
    /// The database to copy from; `legacy+sqlite://FILE` for a file of the Go store whose design
    /// Runtrail follows.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The database to copy to. Its tables are created if needed, and so is a SQLite file.
    #[arg(long, value_name = "URL")]
    to: String,
    /// The PostgreSQL schema to copy from [default: the first one in search_path].
    #[arg(long, value_name = "SCHEMA")]
    from_schema: Option<SchemaName>,
    /// The PostgreSQL schema to copy to; it must exist [default: the first one in search_path].
    #[arg(long, value_name = "SCHEMA")]
    to_schema: Option<SchemaName>,
    /// Make the last copy, after all programs have stopped writing to the source: verify, and fail
    /// if anything is missing.
    #[arg(long = "final")]
    is_final: bool,
    /// After the copy, compare every row of both databases, and fail if any differs [default with
    /// --final].
    #[arg(long)]
    verify: bool,
    /// Don't compare the databases after a --final copy.
    #[arg(long, conflicts_with = "verify")]
    no_verify: bool,
}

impl Copy {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        if database.is_given() {
            let message =
                "copy doesn't use --database-url or --database-schema: give --from and --to";
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
        let summary = copy.run(&|notice| show_notice(&bar, notice)).await;
        bar.finish_and_clear();
        let summary = summary?;
        // Closing moves the write-ahead log of a SQLite file into the file.
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
                "the target differs from the source: {shortfall}"
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
                "{options} has no Runtrail tables; to copy from the Go store use --from \
                {}sqlite://FILE",
                LegacyStore::URL_PREFIX
            )))
        }
        Err(Error::SchemaMissing) => Err(Failure::failed(format!(
            "{options} has no Runtrail tables: check the database and the schema"
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

fn show_notice(bar: &ProgressBar, notice: Notice) {
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
    let PassSummary {
        runs,
        events,
        budgets,
        ..
    } = summary.copied;
    writeln!(
        out,
        "copied {}",
        rows(&summary.copied, |tally| tally.copied)
    )?;
    if budgets.copied > 0 {
        writeln!(out, "copied {}", counted(budgets.copied, "budget"))?;
    }
    if runs.finished > 0 {
        writeln!(out, "finished {}", counted(runs.finished, "run"))?;
    }
    if runs.labelled > 0 {
        writeln!(out, "labelled {}", counted(runs.labelled, "run"))?;
    }
    if runs.same + events.same > 0 {
        let same = rows(&summary.copied, |tally| tally.same);
        writeln!(out, "already present: {same}")?;
    }
    if runs.behind + events.behind > 0 {
        let behind = rows(&summary.copied, |tally| tally.behind);
        writeln!(
            out,
            "written during the copy, left for the next one: {behind}"
        )?;
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
