use std::io::Write;

use clap::Args;
use runtrail::Ownership;

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::output::{self, counted};

/// End the runs whose process has died, with the status `interrupted`.
///
/// This concerns runs with an owner, such as those of `exec`: a process that shows by heartbeats
/// that it is alive. Runs without one never end by a sweep; `list --stale` lists them.
#[derive(Args)]
pub(crate) struct Sweep {}

impl Sweep {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_existing().await?;
        let ended = store.sweep_interrupted().await?;
        let mut out = output::plain();
        match ended {
            0 => writeln!(out, "nothing to end: no run has lost its process")?,
            ended => writeln!(out, "ended {} as interrupted", counted(ended, "run"))?,
        }
        output::finish(out)
    }
}
