use std::time::Instant;

use async_trait::async_trait;
use runtrail_audit::{Error, Heartbeat, Owner, OwnerRecord, Ownership, Result, rules};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::settings::Session;
use crate::statements::{interruptions, owners};
use crate::store::AuditStore;
use crate::store_owner::StoreOwner;

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
        let heartbeat = renew(&db, owner).await?;
        Ok(owner.take_late().unwrap_or(heartbeat))
    }

    async fn sweep_interrupted(&self) -> Result<u64> {
        let db = self.writing(debug_span!("sweep_interrupted")).await?;
        let swept = interruptions::sweep(&db).await;
        self.hub().something_written();
        swept
    }

    async fn find_owner(&self, owner_id: &str) -> Result<Option<OwnerRecord>> {
        let db = self.reading(debug_span!("find_owner")).await?;
        owners::find(&db, owner_id).await
    }
}

impl<C: Connection> AuditStore<C> {
    /// Sends a heartbeat if one is due, so that a run never starts with a dead owner. On a caller's
    /// connection this does nothing: a heartbeat would lock the owner's row until the transaction
    /// ends.
    ///
    /// Concurrent callers share one heartbeat, and its error if it fails.
    pub(crate) async fn renew_if_due(&self, db: &Session<'_, C>) -> Result<()> {
        let Some(owner) = &self.settings.owner else {
            return Ok(());
        };
        let is_due = || owner.is_due(rules::micros(db.clock.now()));
        if db.connection().pool().is_none() || !is_due() {
            return Ok(());
        }
        let begun = Instant::now();
        let renewal = async {
            let mut last_failure = owner.last_failure().await;
            match &*last_failure {
                _ if !is_due() => return Ok(()),
                Some((at, err)) if *at > begun => return Err(err.clone()),
                _ => {}
            }
            match renew(db, owner).await {
                Ok(heartbeat) => {
                    owner.keep_for_next(heartbeat);
                    Ok(())
                }
                Err(err) => {
                    *last_failure = Some((Instant::now(), err.clone()));
                    Err(err)
                }
            }
        };
        // No retry here: `renew` retries its statements.
        db.within_deadline(renewal).await
    }
}

async fn renew(db: &Session<'_, impl Connection>, owner: &StoreOwner) -> Result<Heartbeat> {
    let begun = rules::micros(db.clock.now());
    let heartbeat = owners::renew(db, owner.owner()).await?;
    // A caller's transaction may still be rolled back.
    if db.connection().pool().is_some() {
        owner.renewed(begun);
    }
    Ok(heartbeat)
}
