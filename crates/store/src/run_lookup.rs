use async_trait::async_trait;
use runtrail_audit::{Result, RunLookup, RunQuery, RunSummary};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::read::{lineage, lookup};
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> RunLookup for AuditStore<C> {
    async fn find_run_ids(&self, prefix: &str, suffix: &str, limit: u64) -> Result<Vec<String>> {
        let db = self.reading(debug_span!("find_run_ids")).await?;
        lookup::ids(&db, prefix, suffix, limit).await
    }

    async fn adjacent_run_ids(&self, ids: &[String]) -> Result<Vec<String>> {
        let db = self.reading(debug_span!("adjacent_run_ids")).await?;
        lookup::neighbours(&db, ids).await
    }

    async fn find_runs(&self, run_ids: &[String], query: &RunQuery) -> Result<Vec<RunSummary>> {
        let db = self.reading(debug_span!("find_runs")).await?;
        lookup::runs(&db, run_ids, query).await
    }

    async fn list_ancestors(&self, run_id: &str) -> Result<Vec<RunSummary>> {
        let db = self.reading(debug_span!("list_ancestors")).await?;
        lineage::ancestors(&db, run_id).await
    }

    async fn count_children(&self, run_id: &str) -> Result<u64> {
        let db = self.reading(debug_span!("count_children")).await?;
        lineage::count_children(&db, run_id).await
    }
}
