//! Records agent runs from a file, then queries the history.
//!
//! ```sh
//! cargo run -p runtrail --example agent_runs [FILE] [DATABASE_URL]
//! ```
//!
//! FILE has the format of tau-bench's historical trajectories and defaults to the small sample next
//! to this file. DATABASE_URL defaults to an in-memory database, which is lost when the program
//! ends.
#![expect(clippy::print_stdout, reason = "an example prints its results")]

mod import;

use std::{env, fs};

use anyhow::Context;
use runtrail::{AuditStore, Page, RunFilter, RunStatus, Storage};

const SAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/agent_runs/sample.json"
);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let file = arguments.next().unwrap_or_else(|| SAMPLE.to_owned());
    let url = arguments
        .next()
        .unwrap_or_else(|| "sqlite::memory:".to_owned());

    let text = fs::read_to_string(&file).with_context(|| format!("can't read {file}"))?;
    let store = AuditStore::connect(url).await?;
    store.initialize().await?;
    let imported = import::import(&store, &text).await?;
    println!(
        "{} runs of {} tasks, {} events",
        imported.trials, imported.tasks, imported.events
    );

    let failed = RunFilter::new()
        .status(RunStatus::ERROR)
        .skill(import::SKILL);
    println!("{} runs failed", store.count_runs_filtered(&failed).await?);
    println!("newest runs:");
    let trials = RunFilter::new().skill(import::SKILL);
    for run in store.list_runs_filtered(&trials, Page::first(5)).await? {
        println!(
            "  {:<20} {:<6} {:>3} tool calls  for {}",
            run.id, run.status, run.tool_calls, run.caller_id
        );
        for ancestor in store.walk_parent_chain(&run.id).await?.iter().skip(1) {
            println!("    spawned by {}", ancestor.id);
        }
    }
    store.close().await?;
    Ok(())
}
