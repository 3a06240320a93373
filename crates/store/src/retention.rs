use async_trait::async_trait;
use chrono::{DateTime, Utc};
use runtrail_audit::{PurgeBatch, PurgeSize, PurgeSummary, Result, Retention};
use runtrail_db::Connection;
use tracing::instrument;

use crate::statements::purge;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> Retention for AuditStore<C> {
    #[instrument(level = "debug", skip_all)]
    async fn measure_purge(&self, cutoff: DateTime<Utc>) -> Result<PurgeSize> {
        purge::measure(&self.reading().await?, cutoff).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn purge_in_batches(
        &self,
        cutoff: DateTime<Utc>,
        on_batch: &(dyn Fn(PurgeBatch) + Sync),
    ) -> Result<PurgeSummary> {
        purge::older_than(&self.writing().await?, cutoff, on_batch).await
    }
}
