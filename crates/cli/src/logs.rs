use clap::Args;
use futures_util::{StreamExt, TryStreamExt};
use runtrail::{
    AuditStore, BulkStorage, Error, ListOrder, LogFilter, Result as StoreResult, Storage, Watch,
    WatchStart,
};

use crate::database::DatabaseArguments;
use crate::failure::Result;
use crate::run_id::RunId;
use crate::{output, warnings};

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
        let mut filter = LogFilter::new();
        filter.event_type = self.event_type;
        // Reports a damaged run even if it isn't followed.
        let is_running = is_running(&store, &id).await?;
        let events = match self.follow && is_running {
            true => {
                let events = store.watch_logs(&id, &filter, &WatchStart::Beginning);
                events.map_ok(|event| event.item).boxed()
            }
            false => store.stream_logs(&id, &filter, ListOrder::OldestFirst),
        };
        let mut events = warnings::skip_damaged(events);
        if self.json {
            let mut out = output::plain();
            while let Some(event) = output::next(&mut events, &mut out).await? {
                output::json_line(&mut out, &event?)?;
            }
            return output::finish(out);
        }
        let mut out = output::styled();
        let width = output::width();
        while let Some(event) = output::next(&mut events, &mut out).await? {
            output::print_event(&mut out, &event?, width)?;
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
