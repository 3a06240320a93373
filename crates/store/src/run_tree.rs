use async_trait::async_trait;
use runtrail_audit::{Result, RunSummary, RunTree};
use runtrail_db::Connection;

use crate::read::lineage;
use crate::store::AuditStore;
use crate::traced::traced;

#[async_trait]
impl<C: Connection> RunTree for AuditStore<C> {
    async fn list_children(&self, run_id: &str) -> Result<Vec<RunSummary>> {
        traced!("list_children", async {
            lineage::children(&self.reading().await?, run_id).await
        })
    }

    async fn list_subtree(&self, run_id: &str) -> Result<Vec<RunSummary>> {
        traced!("list_subtree", async {
            lineage::subtree(&self.reading().await?, run_id).await
        })
    }
}
