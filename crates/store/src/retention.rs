use async_trait::async_trait;
use chrono::{DateTime, Utc};
use runtrail_audit::{PurgeBatch, PurgeSize, PurgeSummary, Result, Retention};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::statements::purge;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> Retention for AuditStore<C> {
    async fn measure_purge(&self, cutoff: DateTime<Utc>) -> Result<PurgeSize> {
        let db = self.reading(debug_span!("measure_purge")).await?;
        purge::measure(&db, cutoff).await
    }

    async fn purge_in_batches(
        &self,
        cutoff: DateTime<Utc>,
        on_batch: &(dyn Fn(PurgeBatch) + Sync),
    ) -> Result<PurgeSummary> {
        let span = debug_span!("purge_in_batches");
        self.purge(span, cutoff, on_batch).await
    }
}
