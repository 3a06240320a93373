use clap::Args;
use futures_util::TryStreamExt;
use runtrail_store::audit::{BulkStorage, Order, Page};

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::filter::FilterArguments;
use crate::output::RunList;
use crate::warnings;

/// List runs, newest first.
#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    filter: FilterArguments,
    /// At most this many runs.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u64,
    /// Skip this many runs first.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Print each run in full as a line of JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open().await?;
        let now = store.now();
        let filter = self.filter.resolve(now);
        // One more than is shown tells whether there are more.
        let page = Page::first(self.limit.saturating_add(1)).skip(self.offset);
        let runs = store.stream_runs(&filter, Order::NewestFirst, page);
        let mut runs = warnings::instead_of_damage(runs);

        let mut list = RunList::new(self.json, now);
        let mut listed = 0;
        let mut has_more = false;
        while let Some(run) = runs.try_next().await? {
            has_more = listed == self.limit;
            if has_more {
                break;
            }
            list.push(run)?;
            listed += 1;
        }
        list.finish()?;
        if has_more {
            let next = self.offset.saturating_add(listed);
            warnings::note(format!(
                "there are more: --offset {next} goes on, --limit N shows more at once"
            ));
        }
        Ok(())
    }
}
