use async_trait::async_trait;
use runtrail_audit::{Result, RunCreation, SkillRun};
use runtrail_db::Connection;

use crate::statements::starts;
use crate::store::AuditStore;
use crate::traced::traced;

#[async_trait]
impl<C: Connection> RunCreation for AuditStore<C> {
    async fn create_run(&self, run: &SkillRun) -> Result<()> {
        traced!("create_run", async {
            starts::create(&self.writing().await?, run).await
        })
    }
}
