use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use runtrail::{PurgeBatch, PurgeSize, Retention, rfc3339};

use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};
use crate::output::{self, counted, progress};
use crate::time::Time;
use crate::warnings::note;

/// Delete runs that finished long ago, with their events; never a running one.
///
/// A SQLite file doesn't shrink: new records reuse the free pages. `sqlite3 FILE VACUUM` returns
/// the space to the disk. On PostgreSQL, autovacuum makes the space reusable.
#[derive(Args)]
pub(crate) struct Purge {
    /// Delete runs that finished before TIME: RFC 3339, a date (0:00 UTC), or an age such as 30d.
    ///
    /// The units of an age are s, m (minutes), h, d, w, M (months) and y.
    #[arg(long, value_name = "TIME")]
    older_than: Time,
    /// Print how much would be deleted, and delete nothing.
    #[arg(long)]
    dry_run: bool,
    /// Delete without asking for confirmation.
    #[arg(long, short)]
    yes: bool,
}

impl Purge {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = match self.dry_run {
            true => database.open_to_read().await?,
            false => database.open_existing().await?,
        };
        let cutoff = self.older_than.resolve(store.now());
        if cutoff > store.now() {
            let message = "--older-than is in the future, which would delete every finished run; \
                use 0s if you mean that";
            return Err(Failure::usage(message));
        }
        let size = store.measure_purge(cutoff).await?;
        let before = rfc3339::text(cutoff);
        let what = describe(size);
        if self.dry_run {
            return print_line(&format!(
                "would delete {what} that finished before {before}"
            ));
        }
        if size.runs == 0 {
            return print_line(&format!(
                "nothing to delete: no run finished before {before}"
            ));
        }
        if !self.yes && !is_confirmed(&format!("Delete {what} that finished before {before}?"))? {
            return Err(Failure::failed("nothing was deleted"));
        }

        let bar = progress(size.runs, "{pos}/{len} runs");
        let deleted = AtomicU64::new(0);
        let advance = |batch: PurgeBatch| {
            deleted.fetch_add(batch.runs, Ordering::Relaxed);
            bar.inc(batch.runs + batch.skipped.len() as u64);
        };
        let purged = store.purge_in_batches(cutoff, &advance).await;
        bar.finish_and_clear();
        let purged = purged.inspect_err(|_| {
            let deleted = counted(deleted.load(Ordering::Relaxed), "run");
            note(format!(
                "stopped after {deleted} had been deleted; purge again to complete it"
            ));
        })?;
        print_line(&format!(
            "deleted {} that finished before {before}",
            counted(purged.runs, "run")
        ))?;
        if purged.skipped > 0 {
            return Err(Failure::failed(format!(
                "{} could not be deleted and kept all events; the warnings above give the reasons",
                counted(purged.skipped, "run")
            )));
        }
        Ok(())
    }
}

fn describe(size: PurgeSize) -> String {
    format!(
        "{} with {}",
        counted(size.runs, "run"),
        counted(size.events, "event")
    )
}

fn print_line(line: &str) -> Result<()> {
    let mut out = output::plain();
    writeln!(out, "{line}")?;
    output::finish(out)
}

fn is_confirmed(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = "there is no terminal to ask for confirmation on: use --yes to delete, or \
            --dry-run to see how much would be deleted";
        return Err(Failure::usage(message));
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
