use std::io::Write;

use clap::Args;
use runtrail::Ownership;

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::output::{self, counted};

/// End the runs whose process has died, with the status `interrupted`.
///
/// An owner is a process that sends heartbeats to show that it is alive; `exec` is one. A run
/// without an owner ends only together with one of its ancestors; `list --stale` lists such runs.
#[derive(Args)]
pub(crate) struct Sweep {}

impl Sweep {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_existing().await?;
        let ended = store.sweep_interrupted().await?;
        let mut out = output::plain();
        match ended {
            0 => writeln!(out, "ended no runs")?,
            ended => writeln!(out, "ended {} as interrupted", counted(ended, "run"))?,
        }
        output::finish(out)
    }
}
