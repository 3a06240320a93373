use chrono::{DateTime, Utc};
use clap::Args;
use runtrail::{Storage, rfc3339};
use serde::Serialize;

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::output::{self, Column, Table, ago, printable};

const COLUMNS: [Column; 3] = [
    Column::text("SKILL"),
    Column::number("LAST RUN"),
    Column::text("STARTED").with_weight(1),
];

/// Show when skills last ran without an error or a timeout.
#[derive(Args)]
pub(crate) struct Last {
    /// The skills to show.
    #[arg(required = true, value_name = "SKILL")]
    skills: Vec<String>,
    /// Include runs with the status error or timeout.
    #[arg(long)]
    include_failed: bool,
    /// Print each skill as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct LastRun<'a> {
    skill_id: &'a str,
    /// `None` if the skill has never run.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    started_at: Option<DateTime<Utc>>,
}

impl Last {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let last_runs = store
            .last_run_by_skills(&self.skills, self.include_failed)
            .await?;
        let last_runs = self.skills.iter().map(|skill| LastRun {
            skill_id: skill,
            started_at: last_runs.get(skill).copied(),
        });
        if self.json {
            return output::json_lines(last_runs);
        }
        let now = store.now();
        let mut table = Table::new(&COLUMNS);
        for LastRun {
            skill_id,
            started_at,
        } in last_runs
        {
            table.push([
                printable(skill_id),
                started_at.map_or_else(|| "never".to_owned(), |time| ago(time, now)),
                started_at.map_or_else(String::new, rfc3339::text),
            ]);
        }
        output::show(&table)
    }
}
