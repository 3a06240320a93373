use async_trait::async_trait;
use runtrail_audit::{ModelUsage, Result, UsageTotals};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::read::usage;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> UsageTotals for AuditStore<C> {
    async fn usage_by_model(&self, run_ids: &[String]) -> Result<Vec<ModelUsage>> {
        let db = self.reading(debug_span!("usage_by_model")).await?;
        usage::by_model(&db, run_ids).await
    }
}
