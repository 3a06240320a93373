use async_trait::async_trait;
use chrono::{DateTime, Utc};
use runtrail_audit::{PurgeBatch, PurgeSize, PurgeSummary, Result, Retention};
use runtrail_db::Connection;

use crate::statements::purge;
use crate::store::AuditStore;
use crate::traced::traced;

#[async_trait]
impl<C: Connection> Retention for AuditStore<C> {
    async fn measure_purge(&self, cutoff: DateTime<Utc>) -> Result<PurgeSize> {
        traced!("measure_purge", async {
            purge::measure(&self.reading().await?, cutoff).await
        })
    }

    async fn purge_in_batches(
        &self,
        cutoff: DateTime<Utc>,
        on_batch: &(dyn Fn(PurgeBatch) + Sync),
    ) -> Result<PurgeSummary> {
        traced!("purge_in_batches", async {
            purge::older_than(&self.writing().await?, cutoff, on_batch).await
        })
    }
}
