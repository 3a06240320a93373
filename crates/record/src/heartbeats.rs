use std::future::pending;
use std::time::Duration;

use runtrail_audit::{Heartbeat, Ownership};
use tokio::time::{sleep, timeout};

/// Keeps the owner of a store alive by [heartbeats](Ownership::heartbeat), until this future is
/// dropped; it never completes. If the store has no owner, it does nothing.
///
/// A [`Recorder`](crate::Recorder) does this itself from its first start on. Other hosts spawn it:
///
/// ```
/// # use std::sync::Arc;
/// # use runtrail_audit::History;
/// # async fn example(history: Arc<dyn History>) {
/// let heartbeats = tokio::spawn(async move { runtrail_record::keep_alive(&*history).await });
/// // ... start and finish runs ...
/// heartbeats.abort();
/// # }
/// ```
///
/// A heartbeat that fails is reported through `tracing` and repeated after at most a second. So is
/// one that arrives after the end of the lease, since the runs of the owner may have been ended in
/// the meantime.
///
/// # Panics
///
/// In a tokio runtime without timers.
pub async fn keep_alive(store: &(impl Ownership + ?Sized)) {
    const RETRY: Duration = Duration::from_secs(1);

    let Some(owner) = store.owner() else {
        return pending().await;
    };
    let interval = owner.heartbeat_interval();
    loop {
        let wait = match timeout(owner.lease, store.heartbeat()).await {
            Ok(Ok(Heartbeat::Late { last_seen_at })) => {
                tracing::warn!(
                    owner_id = owner.id,
                    %last_seen_at,
                    "a heartbeat came after the end of the lease: runs of this owner may have been \
                    ended as interrupted"
                );
                interval
            }
            Ok(Ok(_)) => interval,
            Ok(Err(err)) => {
                tracing::warn!(owner_id = owner.id, %err, "a heartbeat failed");
                interval.min(RETRY)
            }
            Err(_) => {
                tracing::warn!(owner_id = owner.id, "a heartbeat was not answered in time");
                Duration::ZERO
            }
        };
        sleep(wait).await;
    }
}
