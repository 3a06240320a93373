use std::io::Write;

use clap::Args;
use runtrail::Ownership;

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::output::{self, counted};

/// End the runs whose process has died, with the status `interrupted`.
///
/// This concerns runs with an owner, such as those of `exec`: a process that shows by heartbeats
/// that it is alive. A run without one ends only together with a run above it; `list --stale` lists
/// such runs.
#[derive(Args)]
pub(crate) struct Sweep {}

impl Sweep {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_existing().await?;
        let ended = store.sweep_interrupted().await?;
        let mut out = output::plain();
        match ended {
            0 => writeln!(out, "ended no run: no running run has a dead owner")?,
            ended => writeln!(out, "ended {} as interrupted", counted(ended, "run"))?,
        }
        output::finish(out)
    }
}
