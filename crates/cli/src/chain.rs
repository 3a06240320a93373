use clap::Args;
use runtrail::{Error, Storage};

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::output::RunList;
use crate::run_id::RunId;

/// Show a run and its ancestors: parent, grandparent, and so on.
#[derive(Args)]
pub(crate) struct Chain {
    #[command(flatten)]
    run: RunId,
    /// Print each run in full as a line of JSON.
    #[arg(long)]
    json: bool,
}

impl Chain {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let id = self.run.resolve(&store).await?;
        let runs = store.walk_parent_chain(&id).await?;
        if runs.is_empty() {
            return Err(Error::not_found(&id).into());
        }
        let mut list = RunList::new(self.json, store.now());
        for run in runs {
            list.push(run)?;
        }
        list.finish(&store).await
    }
}
