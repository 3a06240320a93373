use async_trait::async_trait;
use runtrail_audit::{Result, RunCreation, SkillRun};
use runtrail_db::Connection;
use tracing::instrument;

use crate::statements::starts;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> RunCreation for AuditStore<C> {
    #[instrument(level = "debug", skip_all)]
    async fn create_run(&self, run: &SkillRun) -> Result<()> {
        starts::create(&self.writing().await?, run).await
    }
}
