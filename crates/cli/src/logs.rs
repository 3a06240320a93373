use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use futures_util::TryStreamExt;
use runtrail::{
    AuditStore, BulkStorage, Error, ListOrder, LogFilter, Result as StoreResult, Storage,
};

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::run_id::RunId;
use crate::{output, warnings};

/// How often `--follow` polls for new events.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// Show the events of a run, in order, with times in UTC.
#[derive(Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    run: RunId,
    /// Only events of this type. `runtrail exec` records stdout, stderr, output (with --merge or
    /// --pty) and exit.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Wait for new events until the run has finished.
    #[arg(long, short)]
    follow: bool,
    /// Print each event as a line of JSON.
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let id = self.run.resolve(&store).await?;
        let mut reported = HashSet::new();
        let mut filter = LogFilter::new();
        filter.event_type = self.event_type.clone();
        loop {
            // Checked before printing: an event that is stored in between isn't missed.
            let is_running = is_running(&store, &id).await?;
            self.print(&store, &id, &mut filter, &mut reported).await?;
            if !self.follow || !is_running {
                return Ok(());
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    /// Prints the stored events, and advances the filter past them.
    ///
    /// The filter doesn't advance past a damaged event at the end. Each poll reads that event
    /// again, but it is reported only once.
    async fn print(
        &self,
        store: &AuditStore,
        id: &str,
        filter: &mut LogFilter,
        reported: &mut HashSet<String>,
    ) -> Result<()> {
        let events = store.stream_logs(id, filter, ListOrder::OldestFirst);
        let mut events = warnings::skip_damaged_reporting_once(events, reported);
        if self.json {
            let mut out = output::plain();
            while let Some(event) = events.try_next().await? {
                output::json_line(&mut out, &event)?;
                filter.after = Some(event.sequence);
            }
            return output::finish(out);
        }
        let mut out = output::styled();
        let width = output::width();
        while let Some(event) = events.try_next().await? {
            output::print_event(&mut out, &event, width)?;
            filter.after = Some(event.sequence);
        }
        output::finish(out)
    }
}

async fn is_running(store: &AuditStore, id: &str) -> StoreResult<bool> {
    match store.get_run(id).await {
        Ok(run) => Ok(run.is_running()),
        // The events of a damaged run may still be readable.
        Err(err @ Error::Corrupt { .. }) => {
            warnings::warn_damaged(&err);
            Ok(false)
        }
        Err(err) => Err(err),
    }
}
