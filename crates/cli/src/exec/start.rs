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
    pub(super) async fn store(self) -> Result<AuditStore> {
        match timeout(PATIENCE, self.store_patiently()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.database.opening(unanswered())),
        }
    }

    async fn store_patiently(&self) -> Result<AuditStore> {
        let store = self.database.open().await?;
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
