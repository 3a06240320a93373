use async_trait::async_trait;
use runtrail_audit::{Result, RunSummary, RunTree};
use runtrail_db::Connection;
use tracing::instrument;

use crate::read::lineage;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> RunTree for AuditStore<C> {
    #[instrument(level = "debug", skip_all)]
    async fn list_children(&self, run_id: &str) -> Result<Vec<RunSummary>> {
        lineage::children(&self.reading().await?, run_id).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn list_subtree(&self, run_id: &str) -> Result<Vec<RunSummary>> {
        lineage::subtree(&self.reading().await?, run_id).await
    }
}
