use clap::Args;
use futures_util::StreamExt;
use runtrail::{BulkStorage, Error, ListOrder, Page};

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
    /// List at most this many runs.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u64,
    /// Skip this many of the newest runs.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Print each run in full as a line of JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let now = store.now();
        let query = self.filter.resolve(now);
        // No limit in the query, since damaged rows don't count towards it. The stream reads in
        // pages.
        let page = Page::ALL.skip(self.offset);
        let mut runs = store.stream_runs_by_query(&query, ListOrder::NewestFirst, page);

        let mut list = RunList::new(self.json, now);
        let mut listed = 0;
        // Unlike the limit, an offset counts damaged rows.
        let mut next = self.offset;
        let mut has_more = false;
        while let Some(run) = runs.next().await {
            match run {
                Err(err @ Error::Corrupt { .. }) => warnings::warn_damaged(&err),
                Ok(_) if listed == self.limit => {
                    has_more = true;
                    break;
                }
                run => {
                    list.push(run?)?;
                    listed += 1;
                }
            }
            next = next.saturating_add(1);
        }
        list.finish(&store).await?;
        if has_more {
            warnings::note(format!(
                "there are more runs: --offset {next} continues, --limit N lists more at once"
            ));
        }
        Ok(())
    }
}
