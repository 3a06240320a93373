use std::io::{BufWriter, Stdout};

use chrono::{DateTime, Utc};
use runtrail::{AuditStore, RunSummary, SkillRun};

use super::{
    Column, Table, ago, count, json_line, printable, rough_count, run_duration, shorten_ids, show,
    status, width,
};
use crate::failure::Result;

const COLUMNS: [Column; 9] = [
    Column::id("RUN"),
    Column::text("SKILL"),
    Column::text("STATUS"),
    Column::number("STARTED"),
    Column::number("DURATION"),
    Column::text("CALLER").with_weight(3),
    Column::text("CHANNEL").with_weight(1),
    Column::number("TOOLS").with_weight(2),
    Column::number("TOKENS").with_weight(4),
];

/// Prints runs. Lines of JSON contain every field and are printed immediately; a table is printed
/// at the end.
pub(crate) enum RunList {
    Json(BufWriter<Stdout>),
    Table {
        runs: Vec<RunSummary>,
        now: DateTime<Utc>,
    },
}

impl RunList {
    pub(crate) fn new(is_json: bool, now: DateTime<Utc>) -> Self {
        if is_json {
            return Self::Json(super::plain());
        }
        let runs = Vec::new();
        Self::Table { runs, now }
    }

    pub(crate) fn push(&mut self, run: SkillRun) -> Result<()> {
        match self {
            Self::Json(out) => json_line(out, &run)?,
            Self::Table { runs, .. } => runs.push(RunSummary::from(&run)),
        }
        Ok(())
    }

    pub(crate) async fn finish(self, store: &AuditStore) -> Result<()> {
        match self {
            Self::Json(out) => super::finish(out),
            Self::Table { runs, now } => show(&run_table(runs, now, width(), store).await?),
        }
    }
}

/// Returns a table of runs. If it is too wide, it shows the shortest unambiguous beginning of each
/// id.
pub(crate) async fn run_table(
    mut runs: Vec<RunSummary>,
    now: DateTime<Utc>,
    width: Option<usize>,
    store: &AuditStore,
) -> Result<Table<9>> {
    let table = |runs: &[RunSummary]| {
        let mut table = Table::new(&COLUMNS);
        for run in runs {
            table.push(row(run, now));
        }
        table
    };
    let whole = table(&runs);
    if whole.fits(width) {
        return Ok(whole);
    }
    shorten_ids(&mut runs, store).await?;
    Ok(table(&runs))
}

fn row(run: &RunSummary, now: DateTime<Utc>) -> [String; 9] {
    [
        printable(&run.id),
        printable(&run.skill_id),
        status(&run.status),
        ago(run.started_at, now),
        run_duration(run, now),
        printable(&run.caller_id),
        printable(&run.channel_id),
        count(run.tool_calls),
        rough_count(run.total_tokens()),
    ]
}
