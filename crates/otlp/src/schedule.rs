//! Decides when each group is folded.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a group waits for further batches before it is folded.
const GATHERING: Duration = Duration::from_millis(100);

/// The pause after a first failure, and the longest one. Each further failure doubles it.
const AFTER_FAILURE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];

/// The longest time that a group waits without news.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// Groups that aren't folded before this time: large ones, and those that have failed.
    resting: HashMap<String, Instant>,
    /// How often in a row a group has failed.
    failures: HashMap<String, u32>,
}

impl Groups {
    /// Makes a group due at this time, unless it is due earlier.
    fn add(&mut self, group: String, at: Instant) {
        let rested = self.resting.get(&group);
        let at = rested.map_or(at, |rested| at.max(*rested));
        if let Some(earlier) = self.due.get(&group) {
            if *earlier <= at {
                return;
            }
            self.order.remove(&(*earlier, group.clone()));
        }
        self.order.insert((at, group.clone()));
        self.due.insert(group, at);
    }

    /// Puts a group off until this time, even if it has changed meanwhile.
    fn rest(&mut self, group: &str, until: Instant) {
        self.resting.insert(group.to_owned(), until);
        if let Some(at) = self.due.get(group).copied().filter(|at| *at < until) {
            self.order.remove(&(at, group.to_owned()));
            self.order.insert((until, group.to_owned()));
            self.due.insert(group.to_owned(), until);
        }
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
    pub(crate) fn changed(&self, changed: Vec<String>) {
        let at = Instant::now() + GATHERING;
        let mut groups = self.lock();
        for group in changed {
            groups.add(group, at);
        }
        drop(groups);
        self.has_changed.notify_one();
    }

    /// Notes that the store has records of a group that are due after this time. A group that is
    /// already known doesn't change.
    pub(crate) fn found(&self, group: String, due: Duration) {
        let mut groups = self.lock();
        if !groups.due.contains_key(&group) {
            groups.add(group, Instant::now() + due.min(LONGEST));
        }
        drop(groups);
        self.has_changed.notify_one();
    }

    /// Notes that a group was folded. It isn't folded again before `rest` has passed. `waiting` is the time
    /// until the first of its records has waited long enough, if any waits.
    pub(crate) fn folded(&self, group: &str, rest: Duration, waiting: Option<Duration>) {
        let now = Instant::now();
        let mut groups = self.lock();
        groups.failures.remove(group);
        groups.resting.retain(|_, rested| *rested > now);
        if rest > GATHERING {
            groups.rest(group, now + rest);
        }
        if let Some(waiting) = waiting {
            let waiting = waiting.clamp(GATHERING, LONGEST);
            groups.add(group.to_owned(), now + waiting);
        }
    }

    /// Notes that a group could not be folded. It is tried again, less and less often.
    pub(crate) fn failed(&self, group: String) {
        let [first, longest] = AFTER_FAILURE;
        let mut groups = self.lock();
        let failures = groups.failures.entry(group.clone()).or_default();
        let pause = (first * 2_u32.pow((*failures).min(16))).min(longest);
        *failures += 1;
        let at = Instant::now() + pause;
        groups.rest(&group, at);
        groups.add(group, at);
    }

    /// Waits until a group is due.
    pub(crate) async fn is_due(&self) {
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

    /// Takes the groups that are due; at most `limit`.
    pub(crate) fn take_due(&self, limit: usize) -> Vec<String> {
        let now = Instant::now();
        let mut groups = self.lock();
        std::iter::from_fn(|| groups.pop(now)).take(limit).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_group_is_due_once_after_its_last_change() {
        let schedule = Schedule::default();
        schedule.changed(vec!["a".into(), "b".into()]);
        schedule.changed(vec!["a".into()]);
        assert_eq!(schedule.take_due(10), [""; 0]);
        schedule.is_due().await;
        assert_eq!(schedule.take_due(1), ["a"]);
        assert_eq!(schedule.take_due(10), ["b"]);
        assert_eq!(schedule.take_due(10), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_group_is_tried_less_and_less_often() {
        let schedule = Schedule::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            // News don't shorten the pause, whether they come before or after the failure.
            schedule.changed(vec!["a".into()]);
            schedule.failed("a".into());
            schedule.changed(vec!["a".into()]);
            schedule.found("a".into(), Duration::ZERO);
            let begun = Instant::now();
            schedule.is_due().await;
            pauses.push(begun.elapsed().as_secs());
            assert_eq!(schedule.take_due(10), ["a"]);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_group_rests() {
        let schedule = Schedule::default();
        schedule.changed(vec!["a".into()]);
        schedule.folded("a", Duration::from_secs(8), Some(Duration::from_secs(60)));
        schedule.changed(vec!["a".into()]);
        let begun = Instant::now();
        schedule.is_due().await;
        assert_eq!(begun.elapsed().as_secs(), 8);
    }
}
