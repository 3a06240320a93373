use std::collections::BTreeMap;

use async_trait::async_trait;
use runtrail_audit::{Result, RunLabels};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::statements::labels;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> RunLabels for AuditStore<C> {
    async fn add_labels(&self, run_id: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let db = self.writing(debug_span!("add_labels")).await?;
        labels::add_all(&db, run_id, labels).await
    }
}
