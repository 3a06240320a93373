//! Two agents whose runs are recorded: a researcher, which looks up tides, and an editor, to which
//! the researcher gives its draft. Both are written with [rig](https://docs.rs/rig).
//!
//! ```sh
//! cd examples/agent
//! cargo run                                  # records into runtrail.db in the current folder
//! cargo run -- postgres://localhost/history  # or set DATABASE_URL
//! cargo run -- --traced                      # records with a tracing layer
//! ```
//!
//! By default, hooks record the agents ([record.rs](record.rs)). With `--traced`, they record
//! nothing themselves: a `tracing` layer, one line of this file, records the spans of rig.
//!
//! The model is a stand-in inside this program, which answers from a script over HTTP. With
//! `AGENT_MODEL`, the agents use a real one behind OpenAI's chat completions API. Over https this
//! needs the feature `tls`:
//!
//! ```sh
//! AGENT_MODEL=gpt-5-mini OPENAI_API_KEY=… cargo run --features tls
//! AGENT_MODEL=qwen3 OPENAI_API_KEY=none OPENAI_BASE_URL=http://localhost:11434/v1 cargo run
//! ```

mod agents;
mod models;
mod record;
mod stand_in;

use std::env;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use runtrail::{AuditStore, Owner, Recorder, Storage};
use serde_json::json;
use tracing_subscriber::prelude::*;

use crate::models::Models;

const QUESTION: &str = "Where is today's high water the highest: Cuxhaven, Husum or Helgoland?";

#[tokio::main]
async fn main() -> Result<()> {
    const TRACED: &str = "--traced";
    let is_traced = env::args().any(|arg| arg == TRACED);
    let url = env::args().skip(1).find(|arg| arg != TRACED);
    let url = url.or_else(|| env::var("DATABASE_URL").ok());
    let url = url.unwrap_or_else(|| "sqlite://runtrail.db?mode=rwc".to_owned());
    let store = AuditStore::connect(url).await?;
    store.initialize().await?;
    // If this process dies, `runtrail sweep` ends its runs as `interrupted`.
    let owner = Owner::new(format!("agent example, process {}", process::id()));
    let recorder = Recorder::new(Arc::new(store.with_owner(owner)));

    let answered = match is_traced {
        true => traced_answer(&recorder).await,
        false => answer(&recorder).await,
    };

    let unwritten = recorder.shutdown(Duration::from_secs(10)).await;
    ensure!(unwritten.is_empty(), "not recorded: {unwritten:?}");
    println!("{}", answered?);
    Ok(())
}

async fn answer(recorder: &Recorder) -> Result<String> {
    let models = Models::from_env().await?;
    let run = recorder
        .start("researcher")
        .caller("alice")
        .channel("terminal")
        .input("question", json!(QUESTION))
        .await?;
    println!("To see what happened: runtrail tree {}", run.id());
    let researcher = agents::researcher(&models, Some(&run));
    record::answer(&run, &researcher, QUESTION).await
}

/// Like [`answer`], but a layer records the spans of the agents.
async fn traced_answer(recorder: &Recorder) -> Result<String> {
    let models = Models::from_env().await?;
    tracing_subscriber::registry()
        .with(runtrail::layer(recorder))
        .init();
    println!("To see what happened: runtrail list");
    agents::prompt(&agents::researcher(&models, None), QUESTION).await
}
