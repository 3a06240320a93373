use std::io::{BufWriter, Stdout};

use chrono::{DateTime, Utc};
use runtrail_store::audit::{RunSummary, SkillRun};

use super::{
    Column, Table, ago, count, json_line, printable, rough_count, run_duration, show, status,
};
use crate::failure::Result;

const COLUMNS: [Column; 9] = [
    Column::id("RUN"),
    Column::text("SKILL"),
    Column::text("STATUS"),
    Column::number("STARTED"),
    Column::number("DURATION"),
    Column::text("CALLER").weighing(3),
    Column::text("CHANNEL").weighing(1),
    Column::number("TOOLS").weighing(2),
    Column::number("TOKENS").weighing(4),
];

/// Runs: as lines of JSON, whole and at once, or as a table at the end.
pub(crate) enum RunList {
    Json(BufWriter<Stdout>),
    Table { table: Table<9>, now: DateTime<Utc> },
}

impl RunList {
    pub(crate) fn new(is_json: bool, now: DateTime<Utc>) -> Self {
        if is_json {
            return Self::Json(super::plain());
        }
        let table = Table::new(&COLUMNS);
        Self::Table { table, now }
    }

    pub(crate) fn push(&mut self, run: SkillRun) -> Result<()> {
        match self {
            Self::Json(out) => json_line(out, &run)?,
            Self::Table { table, now } => table.push(row(&RunSummary::from(&run), *now)),
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::Json(out) => super::finish(out),
            Self::Table { table, .. } => show(&table),
        }
    }
}

/// A table of runs, for the middle of something else.
pub(crate) fn run_table<'a>(
    runs: impl IntoIterator<Item = &'a RunSummary>,
    now: DateTime<Utc>,
) -> Table<9> {
    let mut table = Table::new(&COLUMNS);
    for run in runs {
        table.push(row(run, now));
    }
    table
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
