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
/// A heartbeat that fails is reported through `tracing` and sent again within a second. One that
/// arrives after the end of the lease is reported too, since the runs of the owner may have been
/// ended in the meantime.
///
/// # Panics
///
/// If the store has an owner and the future is polled outside a tokio runtime with timers.
pub async fn keep_alive(store: &(impl Ownership + ?Sized)) {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    let Some(owner) = store.owner() else {
        return pending().await;
    };
    let interval = owner.heartbeat_interval();
    let pause_after_failure = interval.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    loop {
        // A broken connection may never answer. The timeout leaves time for another attempt within
        // the lease, on a new connection.
        let wait = match timeout(interval, store.heartbeat()).await {
            Ok(Ok(Heartbeat::Late { last_seen_at })) => {
                tracing::warn!(
                    owner_id = owner.id,
                    %last_seen_at,
                    "a heartbeat arrived after the lease had expired: a sweep may have ended runs \
                    of this owner"
                );
                interval
            }
            Ok(Ok(_)) => interval,
            Ok(Err(err)) => {
                tracing::warn!(owner_id = owner.id, %err, "a heartbeat failed");
                pause_after_failure
            }
            Err(_) => {
                tracing::warn!(owner_id = owner.id, "a heartbeat timed out");
                pause_after_failure
            }
        };
        sleep(wait).await;
    }
}
