use std::io::Write;

use clap::Args;
use runtrail::PagedStorage;
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
    /// Print {"count": N} instead of the bare number.
    #[arg(long)]
    json: bool,
}

impl Count {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let query = self.filter.resolve(store.now());
        let count = store.count_runs_by_query(&query).await?;
        if self.json {
            return output::json_lines([json!({ "count": count })]);
        }
        let mut out = output::plain();
        writeln!(out, "{count}")?;
        output::finish(out)
    }
}
