use runtrail_store::AuditStore;
use runtrail_store::audit::{Error, RunCreation, SkillRun, Storage};
use tokio::time::timeout;

use super::patience::{PATIENCE, unanswered};
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};

/// The start of a run, to be stored.
pub(super) struct Start {
    pub(super) database: DatabaseArguments,
    pub(super) run: SkillRun,
}

impl Start {
    /// Stores it within [`PATIENCE`], and returns where.
    pub(super) async fn store(mut self) -> Result<AuditStore> {
        match timeout(PATIENCE, self.store_patiently()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.database.opening(unanswered())),
        }
    }

    async fn store_patiently(&mut self) -> Result<AuditStore> {
        let store = self.database.open().await?;
        if let Some(parent) = &self.run.parent_run_id {
            // A parent in another database is none here: the run is a top-level run of this one.
            match store.get_run(parent).await {
                Ok(_) | Err(Error::Corrupt { .. }) => {}
                Err(Error::NotFound { .. }) => self.run.parent_run_id = None,
                Err(err) => return Err(err.into()),
            }
        }
        match store.create_run(&self.run).await {
            Ok(()) => Ok(store),
            Err(Error::RunExists { run_id }) => Err(Failure::failed(format!(
                "there is a run {run_id:?} already; give another --id"
            ))),
            Err(err) => Err(err.into()),
        }
    }
}
