//! When which group is folded.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a group waits for further batches before it is folded.
const GATHERING: Duration = Duration::from_millis(100);

/// How long a group waits after a failure of the store.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The groups that have to be folded, by the time at which they are due.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    groups: Mutex<Groups>,
    has_changed: Notify,
}

#[derive(Debug, Default)]
struct Groups {
    due: HashMap<String, Instant>,
    order: BTreeSet<(Instant, String)>,
    /// Large groups, and the time before which they aren't folded again.
    resting: HashMap<String, Instant>,
}

impl Groups {
    /// Makes a group due at this time, unless it is due earlier.
    fn add(&mut self, group: String, at: Instant) {
        let at = self
            .resting
            .get(&group)
            .map_or(at, |rested| at.max(*rested));
        if let Some(earlier) = self.due.get(&group) {
            if *earlier <= at {
                return;
            }
            self.order.remove(&(*earlier, group.clone()));
        }
        self.order.insert((at, group.clone()));
        self.due.insert(group, at);
    }

    fn pop(&mut self, now: Instant) -> Option<String> {
        let (at, _) = self.order.first()?;
        if *at > now {
            return None;
        }
        let (_, group) = self.order.pop_first()?;
        self.due.remove(&group);
        Some(group)
    }
}

impl Schedule {
    /// Notes that records of these groups have been staged.
    pub(crate) fn changed(&self, groups: Vec<String>) {
        self.add(groups, GATHERING);
    }

    /// Notes that the store has waiting records of these groups.
    pub(crate) fn found(&self, groups: Vec<String>) {
        self.add(groups, Duration::ZERO);
    }

    fn add(&self, added: Vec<String>, delay: Duration) {
        let at = Instant::now() + delay;
        let mut groups = self.lock();
        for group in added {
            groups.add(group, at);
        }
        drop(groups);
        self.has_changed.notify_one();
    }

    /// Notes that a group has been folded, and won't be again for this time. `waiting` is the time
    /// until the first of its records has waited long enough, if any waits.
    pub(crate) fn folded(&self, group: &str, rest: Duration, waiting: Option<Duration>) {
        let now = Instant::now();
        let mut groups = self.lock();
        groups.resting.retain(|_, rested| *rested > now);
        if rest > GATHERING {
            groups.resting.insert(group.to_owned(), now + rest);
        }
        if let Some(waiting) = waiting {
            groups.add(group.to_owned(), now + waiting.max(GATHERING));
        }
    }

    /// Notes that a group could not be folded.
    pub(crate) fn failed(&self, group: String) {
        self.lock().add(group, Instant::now() + AFTER_FAILURE);
    }

    /// Waits until a group is due.
    pub(crate) async fn wait(&self) {
        loop {
            let next = self.lock().order.first().map(|(at, _)| *at);
            match next {
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.has_changed.notified() => {}
                },
                None => self.has_changed.notified().await,
            }
        }
    }

    /// Takes a group that is due.
    pub(crate) fn take(&self) -> Option<String> {
        self.lock().pop(Instant::now())
    }

    /// Takes all groups, whenever they are due.
    pub(crate) fn take_all(&self) -> Vec<String> {
        let mut groups = self.lock();
        groups.order.clear();
        groups.due.drain().map(|(group, _)| group).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        // A panic can't leave it half changed.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
