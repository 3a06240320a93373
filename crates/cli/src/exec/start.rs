use runtrail_store::AuditStore;
use runtrail_store::audit::{Error, RunCreation, SkillRun, Storage};
use tokio::time::timeout;

use super::patience::{PATIENCE, unanswered};
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};

/// A run whose start is to be stored.
pub(super) struct Start {
    pub(super) database: DatabaseArguments,
    pub(super) run: SkillRun,
}

impl Start {
    /// Stores the start within [`PATIENCE`], and returns the store.
    pub(super) async fn store(mut self) -> Result<AuditStore> {
        match timeout(PATIENCE, self.store_patiently()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.database.opening(unanswered())),
        }
    }

    async fn store_patiently(&mut self) -> Result<AuditStore> {
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
