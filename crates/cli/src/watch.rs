use std::io::Write;

use anstyle::Style;
use clap::Args;
use runtrail::{Cursor, RunSummary, Watch, WatchStart};

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::filter::FilterArguments;
use crate::output::{printable, run_duration, status};
use crate::{output, warnings};

/// Print runs as they start and finish, until interrupted.
#[derive(Args)]
pub(crate) struct WatchRuns {
    #[command(flatten)]
    filter: FilterArguments,
    /// Continue after the change with this cursor.
    ///
    /// Each line of JSON contains the cursor of its change.
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// Print each change as a line of JSON: the run and a cursor.
    #[arg(long)]
    json: bool,
}

impl WatchRuns {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let query = self.filter.resolve(store.now());
        let start = self.after.map_or(WatchStart::Now, WatchStart::After);
        let changes = store.watch_runs(&query, &start);
        let mut changes = warnings::skip_damaged(changes);
        if self.json {
            let mut out = output::plain();
            while let Some(change) = output::next(&mut changes, &mut out).await? {
                output::json_line(&mut out, &change?)?;
            }
            return output::finish(out);
        }
        let mut out = output::styled();
        let width = output::width();
        while let Some(change) = output::next(&mut changes, &mut out).await? {
            let line = line(&change?.item);
            let line = match width {
                Some(width) => console::truncate_str(&line, width, "…"),
                None => line.into(),
            };
            writeln!(out, "{line}")?;
        }
        output::finish(out)
    }
}

/// Formats a change on one line: time, status, id, skill, and how long the run took.
fn line(run: &RunSummary) -> String {
    let time = run.finished_at.unwrap_or(run.started_at);
    let time = time.format("%H:%M:%S%.3f");
    let dimmed = Style::new().dimmed();
    let (id, skill) = (printable(&run.id), printable(&run.skill_id));
    let mut line = format!(
        "{dimmed}{time}{dimmed:#}  {}  {id}  {skill}",
        status(&run.status)
    );
    if let Some(finished_at) = run.finished_at {
        line += &format!("  {}", run_duration(run, finished_at));
    }
    line
}
