use std::time::Duration;

use runtrail::{AuditStore, Error, RunCreation, SkillRun, Storage};
use tokio::time::{Instant, sleep, timeout_at};

use super::patience::{PATIENCE, unanswered};
use super::tell;
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// A run whose start is to be stored.
pub(super) struct Start {
    pub(super) database: DatabaseArguments,
    pub(super) run: SkillRun,
    /// Whether the program runs in any case: then nobody waits for a database that can't be reached.
    pub(super) keep_going: bool,
}

impl Start {
    /// Stores the start within [`PATIENCE`], and returns the store. Without `--keep-going` it is tried again while the
    /// database may come back, as during a restart.
    pub(super) async fn store(mut self) -> Result<AuditStore> {
        let until = Instant::now() + PATIENCE;
        let mut reason = None;
        loop {
            let failure = match timeout_at(until, self.store_once()).await {
                Ok(Err(failure)) if failure.is_transient() => failure,
                Ok(stored) => return stored,
                Err(_) => return Err(reason.unwrap_or_else(|| self.database.opening(unanswered()))),
            };
            if self.keep_going || Instant::now() + PAUSE >= until {
                return Err(failure);
            }
            if reason.is_none() {
                let seconds = PATIENCE.as_secs();
                tell(format!(
                    "{}; trying again for up to {seconds} s",
                    failure.in_one_line()
                ));
            }
            reason = Some(failure);
            sleep(PAUSE).await;
        }
    }

    async fn store_once(&mut self) -> Result<AuditStore> {
        let store = self.database.open().await?;
        if let Some(parent) = &self.run.parent_run_id {
            // If the parent is in another database, the run is a top-level run of this one.
            match store.get_run(parent).await {
                Ok(_) | Err(Error::Corrupt { .. }) => {}
                Err(Error::NotFound { .. }) => self.run.parent_run_id = None,
                Err(err) => return Err(err.into()),
            }
        }
        // If two runs have the same id, the second is refused before its program runs.
        match store.create_run(&self.run).await {
            Ok(()) => Ok(store),
            Err(Error::RunExists { run_id }) => Err(Failure::failed(format!(
                "there is a run {run_id:?} already; give another --id"
            ))),
            Err(err) => Err(err.into()),
        }
    }
}
