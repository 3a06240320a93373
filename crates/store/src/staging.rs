use async_trait::async_trait;
use chrono::{DateTime, Utc};
use runtrail_audit::{Result, StagedRecord, Staging, WaitingGroup};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::statements::staged_records;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> Staging for AuditStore<C> {
    async fn stage(&self, records: &[StagedRecord]) -> Result<()> {
        let db = self.writing(debug_span!("stage")).await?;
        staged_records::insert(&db, records).await
    }

    async fn waiting_groups(&self, after: &str, limit: u64) -> Result<Vec<WaitingGroup>> {
        let db = self.reading(debug_span!("waiting_groups")).await?;
        staged_records::waiting_groups(&db, after, limit).await
    }

    async fn waiting_records(&self, group_id: &str, limit: u64) -> Result<Vec<StagedRecord>> {
        let db = self.reading(debug_span!("waiting_records")).await?;
        staged_records::waiting(&db, group_id, limit).await
    }

    async fn find_staged(&self, group_id: &str, ids: &[String]) -> Result<Vec<StagedRecord>> {
        let db = self.reading(debug_span!("find_staged")).await?;
        staged_records::find(&db, group_id, ids).await
    }

    async fn settle(&self, group_id: &str, records: &[(String, String)]) -> Result<()> {
        let db = self.writing(debug_span!("settle")).await?;
        staged_records::settle(&db, group_id, records).await
    }

    async fn forget_settled(&self, cutoff: DateTime<Utc>) -> Result<u64> {
        let db = self.writing(debug_span!("forget_settled")).await?;
        staged_records::forget_settled(&db, cutoff).await
    }
}
