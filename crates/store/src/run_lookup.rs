use async_trait::async_trait;
use runtrail_audit::{Result, RunLookup, RunSummary};
use runtrail_db::Connection;

use crate::read::{lineage, lookup};
use crate::store::AuditStore;
use crate::traced::traced;

#[async_trait]
impl<C: Connection> RunLookup for AuditStore<C> {
    async fn find_run_ids(&self, prefix: &str, suffix: &str, limit: u64) -> Result<Vec<String>> {
        traced!("find_run_ids", async {
            lookup::ids(&self.reading().await?, prefix, suffix, limit).await
        })
    }

    async fn adjacent_run_ids(&self, ids: &[String]) -> Result<Vec<String>> {
        traced!("adjacent_run_ids", async {
            lookup::neighbours(&self.reading().await?, ids).await
        })
    }

    async fn list_ancestors(&self, run_id: &str) -> Result<Vec<RunSummary>> {
        traced!("list_ancestors", async {
            lineage::ancestors(&self.reading().await?, run_id).await
        })
    }

    async fn count_children(&self, run_id: &str) -> Result<u64> {
        traced!("count_children", async {
            lineage::count_children(&self.reading().await?, run_id).await
        })
    }
}
