use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{self, PoisonError};
use std::time::Instant;

use runtrail_audit::{Error, Heartbeat, Owner};
use tokio::sync::{Mutex, MutexGuard};

/// The owner of a store, and when its next heartbeat is due.
#[derive(Debug)]
pub(crate) struct StoreOwner {
    owner: Owner,
    /// The time of the last successful heartbeat by the store's clock, in microseconds; [`NEVER`]
    /// before the first.
    last_heartbeat: AtomicI64,
    /// When a heartbeat before a start last failed, and its error. A start locks this while it sends
    /// a heartbeat, so that concurrent starts send only one.
    last_failure: Mutex<Option<(Instant, Error)>>,
    /// A late heartbeat of a start, for the next caller of `heartbeat`.
    late: sync::Mutex<Option<Heartbeat>>,
}

const NEVER: i64 = i64::MIN;

impl StoreOwner {
    pub(crate) fn new(owner: Owner) -> Self {
        Self {
            owner,
            last_heartbeat: AtomicI64::new(NEVER),
            last_failure: Mutex::default(),
            late: sync::Mutex::default(),
        }
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(crate) fn id(&self) -> &str {
        &self.owner.id
    }

    /// Returns whether a heartbeat is due. Also true if the clock has been set back.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        let last = self.last_heartbeat.load(Ordering::Relaxed);
        let interval = self.owner.heartbeat_interval().as_micros();
        let elapsed = u128::try_from(now.saturating_sub(last));
        last == NEVER || elapsed.map_or(true, |elapsed| elapsed >= interval)
    }

    pub(crate) async fn last_failure(&self) -> MutexGuard<'_, Option<(Instant, Error)>> {
        self.last_failure.lock().await
    }

    /// Keeps the result of a start's heartbeat for the next caller of `heartbeat`, if it was late.
    pub(crate) fn keep_for_next(&self, heartbeat: Heartbeat) {
        if matches!(heartbeat, Heartbeat::Late { .. }) {
            *self.late() = Some(heartbeat);
        }
    }

    pub(crate) fn take_late(&self) -> Option<Heartbeat> {
        self.late().take()
    }

    fn late(&self) -> sync::MutexGuard<'_, Option<Heartbeat>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a heartbeat that began at this time has succeeded.
    pub(crate) fn renewed(&self, begun: i64) {
        self.last_heartbeat.store(begun, Ordering::Relaxed);
    }
}
