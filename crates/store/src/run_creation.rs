use async_trait::async_trait;
use runtrail_audit::{Result, RunCreation, SkillRun};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::statements::starts;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> RunCreation for AuditStore<C> {
    async fn create_run(&self, run: &SkillRun) -> Result<()> {
        let db = self.writing(debug_span!("create_run")).await?;
        self.renew_if_due(&db).await?;
        starts::create(&db, run).await?;
        self.hub()
            .run_written(&run.id, run.parent_run_id.as_deref());
        Ok(())
    }
}
