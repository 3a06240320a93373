use runtrail_store::AuditStore;
use runtrail_store::audit::{Error, SkillRun, Storage};
use tokio::time::timeout;

use super::patience::{PATIENCE, unanswered};
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};

/// The start of a run, to be stored.
pub(super) struct Start {
    pub(super) database: DatabaseArguments,
    pub(super) run: SkillRun,
    /// Whether its id was given, so that there may be such a run.
    pub(super) is_named: bool,
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
        let run_id = &self.run.id;
        if self.is_named {
            // To start a run that is running would be taken for another try of the same start.
            match store.get_run(run_id).await {
                Err(Error::NotFound { .. }) => {}
                Err(err) => return Err(err.into()),
                Ok(_) => {
                    return Err(Failure::failed(format!(
                        "there is a run {run_id:?} already; give another --id"
                    )));
                }
            }
        }
        store.start_run(&self.run).await?;
        Ok(store)
    }
}
