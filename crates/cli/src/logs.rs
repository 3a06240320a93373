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

/// How often `--follow` looks for new events.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// Show the events of a run, in order. Times are UTC.
#[derive(Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    run: RunId,
    /// Only events of this type. Those of `runtrail exec` are stdout, stderr, output (with --merge and --pty) and exit.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Go on with new events until the run has finished.
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
        let mut told = HashSet::new();
        let mut filter = LogFilter::new();
        filter.event_type = self.event_type.clone();
        loop {
            // Asked first, so that no event comes in between.
            let is_running = is_running(&store, &id).await?;
            self.print(&store, &id, &mut filter, &mut told).await?;
            if !self.follow || !is_running {
                return Ok(());
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    /// Prints the events there are, after which the filter begins at what comes next.
    ///
    /// A damaged event at the end is read each time, since the next event may have any sequence, but is reported once.
    async fn print(
        &self,
        store: &AuditStore,
        id: &str,
        filter: &mut LogFilter,
        told: &mut HashSet<String>,
    ) -> Result<()> {
        let events = store.stream_logs(id, filter, ListOrder::OldestFirst);
        let mut events = warnings::instead_of_damage_told_once(events, told);
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
        // Its events may be readable all the same.
        Err(err @ Error::Corrupt { .. }) => {
            warnings::damaged(&err);
            Ok(false)
        }
        Err(err) => Err(err),
    }
}
