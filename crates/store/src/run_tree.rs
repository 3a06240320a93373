use async_trait::async_trait;
use runtrail_audit::{Result, RunQuery, RunSummary, RunTree, SubtreeTotals};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::read::{lineage, subtree_totals};
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

    async fn subtree_totals(
        &self,
        run_ids: &[String],
        query: &RunQuery,
        max_runs: u64,
    ) -> Result<Vec<SubtreeTotals>> {
        let db = self.reading(debug_span!("subtree_totals")).await?;
        subtree_totals::of_each(&db, run_ids, query, max_runs).await
    }
}
