use async_trait::async_trait;
use runtrail_audit::{Result, RunSummary, RunTree};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::read::lineage;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> RunTree for AuditStore<C> {
    async fn list_children(&self, run_id: &str) -> Result<Vec<RunSummary>> {
        let db = self.reading(debug_span!("list_children")).await?;
        lineage::children(&db, run_id).await
    }

    async fn list_subtree(&self, run_id: &str) -> Result<Vec<RunSummary>> {
        let db = self.reading(debug_span!("list_subtree")).await?;
        lineage::subtree(&db, run_id).await
    }
}
