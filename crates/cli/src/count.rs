use std::io::Write;

use clap::Args;
use runtrail_store::audit::Storage;
use serde_json::json;

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::filter::FilterArguments;
use crate::output;

/// Count runs.
#[derive(Args)]
pub(crate) struct Count {
    #[command(flatten)]
    filter: FilterArguments,
    /// Prints a line of JSON.
    #[arg(long)]
    json: bool,
}

impl Count {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open().await?;
        let filter = self.filter.resolve(store.now());
        let count = store.count_runs_filtered(&filter).await?;
        let mut out = output::plain();
        if self.json {
            output::json_line(&mut out, &json!({ "count": count }))?;
        } else {
            writeln!(out, "{count}")?;
        }
        output::finish(out)
    }
}
