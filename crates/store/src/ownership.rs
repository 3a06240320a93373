use async_trait::async_trait;
use runtrail_audit::{Error, Heartbeat, Owner, OwnerRecord, Ownership, Result, rules};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::statements::{interruptions, owners};
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> Ownership for AuditStore<C> {
    fn owner(&self) -> Option<&Owner> {
        self.settings.owner.as_ref().map(|owner| owner.owner())
    }

    async fn heartbeat(&self) -> Result<Heartbeat> {
        let Some(owner) = &self.settings.owner else {
            return Err(Error::invalid("owner", "is missing: the store has none"));
        };
        let db = self.writing(debug_span!("heartbeat")).await?;
        let begun = rules::micros(db.clock.now());
        let heartbeat = owners::renew(&db, owner.owner()).await?;
        // A caller's transaction may still be rolled back.
        if db.connection().pool().is_some() {
            owner.renewed(begun);
        }
        Ok(heartbeat)
    }

    async fn sweep_interrupted(&self) -> Result<u64> {
        let db = self.writing(debug_span!("sweep_interrupted")).await?;
        interruptions::sweep(&db).await
    }

    async fn find_owner(&self, owner_id: &str) -> Result<Option<OwnerRecord>> {
        let db = self.reading(debug_span!("find_owner")).await?;
        owners::find(&db, owner_id).await
    }
}

impl<C: Connection> AuditStore<C> {
    /// Sends a heartbeat if one is due, so that a run never starts with a dead owner. In a caller's
    /// transaction this does nothing: the row of the owner would stay locked until its end.
    pub(crate) async fn keep_alive(&self) -> Result<()> {
        let Some(owner) = &self.settings.owner else {
            return Ok(());
        };
        let is_due = || owner.is_due(rules::micros(self.settings.clock.now()));
        if self.connection().pool().is_none() || !is_due() {
            return Ok(());
        }
        let _in_progress = owner.lock().await;
        if is_due() {
            self.heartbeat().await?;
        }
        Ok(())
    }
}
