use async_trait::async_trait;
use runtrail_audit::{Result, RunLookup, RunSummary};
use runtrail_db::Connection;
use tracing::instrument;

use crate::read::{lineage, lookup};
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> RunLookup for AuditStore<C> {
    #[instrument(level = "debug", skip_all)]
    async fn find_run_ids(&self, prefix: &str, suffix: &str, limit: u64) -> Result<Vec<String>> {
        lookup::ids(&self.reading().await?, prefix, suffix, limit).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn adjacent_run_ids(&self, ids: &[String]) -> Result<Vec<String>> {
        lookup::neighbours(&self.reading().await?, ids).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn list_ancestors(&self, run_id: &str) -> Result<Vec<RunSummary>> {
        lineage::ancestors(&self.reading().await?, run_id).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn count_children(&self, run_id: &str) -> Result<u64> {
        lineage::count_children(&self.reading().await?, run_id).await
    }
}
