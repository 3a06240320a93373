use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use runtrail_audit::{
    Error, ListOrder, PageRequest, Result, RunQuery, RunStatus, RunSummary, rules,
};
use runtrail_db::Pool;
use runtrail_entity::skill_run::Column;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug_span;

use super::events::{arrival, ranges};
use super::hub::{Poll, RunningTask, Work};
use super::recent_runs::RecentRuns;
use super::sources::Tail;
use crate::read::{lineage, list};
use crate::settings::Session;
use crate::statements::{logs, runs};
use crate::store::AuditStore;

/// How often the database is polled while something changes.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How often PostgreSQL is polled after nothing has changed for [`IDLE_AFTER`]. On SQLite, a poll
/// that finds no commit costs some microseconds.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(1);

const IDLE_AFTER: Duration = Duration::from_secs(30);

/// The least time between two reads, in which writes gather.
const MIN_PAUSE: Duration = Duration::from_millis(15);

const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A pause takes this many times as long as the read before it, so that reading occupies at most a
/// twentieth of a processor.
const PAUSE_FACTOR: u32 = 19;

/// How long the task waits while the database is unavailable.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The number of events that one statement reads.
const EVENTS: u64 = 500;

/// The number of running runs whose end is noticed whenever they started.
const RUNNING_RUNS: u64 = PageRequest::MAX_LIMIT;

/// Reads what has been written, for all streams of a store.
pub(super) struct HubTask {
    store: AuditStore,
    running: RunningTask,
    /// SQLite's number of the last commit that was read.
    data_version: Option<i64>,
    last_change: Instant,
    runs: Option<KnownRuns>,
}

/// What is known of the runs in the database.
struct KnownRuns {
    recent: RecentRuns,
    running: HashSet<String>,
    /// The runs that have changed and must still be passed on.
    unsent: Vec<String>,
}

impl HubTask {
    pub(super) fn new(store: AuditStore, running: RunningTask) -> Self {
        Self {
            store,
            running,
            data_version: None,
            last_change: Instant::now(),
            runs: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut next_poll = Instant::now();
        loop {
            let is_poll_due = tokio::select! {
                biased;
                () = sleep_until(next_poll) => true,
                () = self.running.written() => false,
            };
            if self.running.end_if_unused() {
                return;
            }
            let begun = Instant::now();
            let work = self.running.take_work(is_poll_due);
            let is_poll = work.poll != Poll::None;
            match self.read(&work).await {
                Ok(has_changed) => {
                    if has_changed {
                        self.last_change = begun;
                    }
                    if is_poll {
                        next_poll = begun + self.poll_interval();
                    }
                    let pause = begun.elapsed() * PAUSE_FACTOR;
                    sleep(pause.clamp(MIN_PAUSE, MAX_PAUSE)).await;
                }
                Err(err) if err.is_transient() => {
                    self.data_version = None;
                    self.running.put_back(work);
                    sleep(RETRY_INTERVAL).await;
                }
                Err(err) => return self.running.fail(&err),
            }
        }
    }

    fn poll_interval(&self) -> Duration {
        let has_data_version = self.data_version.is_some();
        match !has_data_version && self.last_change.elapsed() > IDLE_AFTER {
            true => IDLE_POLL_INTERVAL,
            false => POLL_INTERVAL,
        }
    }

    /// Reads what was written, and passes it on. Returns whether something has changed.
    async fn read(&mut self, work: &Work) -> Result<bool> {
        let store = self.store.clone();
        let db = store.reading(debug_span!("watch")).await?;
        // Notes the commit that is read, even if a poll is due anyway.
        let has_new_commit = work.poll != Poll::None && self.has_new_commit(&db).await?;
        let is_poll = has_new_commit || work.poll == Poll::Always;
        if is_poll {
            work.tails.iter().for_each(|tail| tail.lock().poll());
        }
        read_trees(&db, work, is_poll).await?;
        let has_events = self.read_events(&db, &work.tails, is_poll).await?;
        end_tails(&db, &work.tails).await?;
        let has_runs = self.read_runs(&db, work, is_poll).await?;
        Ok(has_events || has_runs)
    }

    /// Returns whether another connection may have committed since the last call.
    async fn has_new_commit(&mut self, db: &Session<'_, Pool>) -> Result<bool> {
        let version = db.connection().data_version().await?;
        let last = std::mem::replace(&mut self.data_version, version);
        Ok(version.is_none() || version != last)
    }

    async fn read_events(
        &self,
        db: &Session<'_, Pool>,
        tails: &[Arc<Tail>],
        is_poll: bool,
    ) -> Result<bool> {
        let unread: Vec<_> = tails
            .iter()
            .map(|tail| (tail, tail.lock().take_unread(is_poll)))
            .filter(|(_, unread)| !unread.is_empty())
            .collect();
        let ranges: Vec<_> = unread
            .iter()
            .flat_map(|(tail, unread)| ranges(&tail.run_id, unread.iter().copied()))
            .collect();
        if ranges.is_empty() {
            return Ok(false);
        }
        let rows = logs::in_ranges(db, &ranges, EVENTS).await?;
        if rows.len() as u64 == EVENTS {
            for (tail, _) in &unread {
                tail.lock().read_again();
            }
            self.running.wake();
        }
        let tails: HashMap<_, _> = unread
            .iter()
            .map(|(tail, _)| (tail.run_id.as_str(), *tail))
            .collect();
        let mut changed = HashMap::new();
        for row in rows {
            let Some((run_id, event)) = arrival(row)? else {
                continue;
            };
            if let Some((id, tail)) = tails.get_key_value(run_id.as_str()) {
                tail.lock().add(event);
                changed.insert(*id, *tail);
            }
        }
        for tail in changed.values() {
            tail.lock().events.followers.wake();
        }
        Ok(!changed.is_empty())
    }

    async fn read_runs(
        &mut self,
        db: &Session<'_, Pool>,
        work: &Work,
        is_poll: bool,
    ) -> Result<bool> {
        if work.feeds.is_empty() {
            self.runs = None;
            return Ok(false);
        }
        let known = match &mut self.runs {
            Some(known) => known,
            None => self.runs.insert(KnownRuns::read(db).await?),
        };
        known.update(db, &work.written_runs, is_poll).await?;
        let ids = &known.unsent;
        for feed in &work.feeds {
            let runs = match ids.is_empty() {
                true => Ok(Vec::new()),
                false => list::matching(db, &feed.query, ids).await,
            };
            match runs {
                // Concerns only the streams with this query.
                Err(err @ Error::InvalidInput { .. }) => feed.lock().fail(err),
                runs => feed.lock().add(runs?),
            }
        }
        Ok(!std::mem::take(&mut known.unsent).is_empty())
    }
}

async fn read_trees(db: &Session<'_, Pool>, work: &Work, is_poll: bool) -> Result<()> {
    for tree in &work.trees {
        let is_affected = tree
            .lock()
            .is_affected(&work.written_runs, &work.written_parents);
        if is_poll || is_affected {
            let runs = lineage::subtree(db, &tree.root_id).await?;
            tree.lock().set(runs);
        }
    }
    Ok(())
}

/// Ends the streams of runs that have finished or were deleted. Each of them then reads the last
/// events itself.
async fn end_tails(db: &Session<'_, Pool>, tails: &[Arc<Tail>]) -> Result<()> {
    let tails: Vec<_> = tails
        .iter()
        .filter(|tail| tail.lock().take_may_have_finished())
        .collect();
    if tails.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = tails.iter().map(|tail| tail.run_id.as_str()).collect();
    let are_finished = runs::are_finished(db, &ids).await?;
    for tail in tails {
        if are_finished.get(&tail.run_id) != Some(&false) {
            tail.lock().events.followers.finish(Ok(()));
        }
    }
    Ok(())
}

impl KnownRuns {
    /// Everything that is stored is known.
    async fn read(db: &Session<'_, Pool>) -> Result<Self> {
        let now = rules::micros(db.clock.now());
        let running = RunQuery::new().statuses([RunStatus::RUNNING]);
        let request = PageRequest::first(RUNNING_RUNS);
        let running =
            list::page_of_summaries(db, &running, ListOrder::NewestFirst, &request).await?;
        let mut known = Self {
            recent: RecentRuns::until(now),
            running: running.items.into_iter().map(|run| run.id).collect(),
            unsent: Vec::new(),
        };
        known.update(db, &HashSet::new(), true).await?;
        known.unsent.clear();
        Ok(known)
    }

    /// Finds the runs that have changed, in the order of their last changes.
    async fn update(
        &mut self,
        db: &Session<'_, Pool>,
        written: &HashSet<String>,
        is_poll: bool,
    ) -> Result<()> {
        let now = rules::micros(db.clock.now());
        let mut ids: Vec<String> = written.iter().cloned().collect();
        let mut runs = Vec::new();
        if is_poll {
            let running: Vec<_> = self.running.iter().collect();
            let are_finished = runs::are_finished(db, &running).await?;
            self.running.retain(|id| are_finished.contains_key(id));
            let finished = are_finished
                .into_iter()
                .filter(|(_, is_finished)| *is_finished);
            ids.extend(finished.map(|(id, _)| id));
            runs = changed_between(db, Column::StartedAt, self.recent.starts(now)).await?;
            runs.extend(changed_between(db, Column::FinishedAt, self.recent.finishes(now)).await?);
        }
        if !ids.is_empty() {
            runs.extend(list::matching(db, &RunQuery::new().include_dry_run(), &ids).await?);
        }
        runs.sort_by_key(|run| (run.finished_at.unwrap_or(run.started_at), run.id.clone()));
        for run in &runs {
            match run.finished_at.is_none() {
                true if (self.running.len() as u64) < RUNNING_RUNS => {
                    self.running.insert(run.id.clone());
                }
                true => {}
                false => {
                    self.running.remove(&run.id);
                }
            }
        }
        runs.retain(|run| self.recent.insert(run, now));
        if is_poll {
            self.recent.advance(now);
        }
        self.unsent.extend(runs.into_iter().map(|run| run.id));
        Ok(())
    }
}

async fn changed_between(
    db: &Session<'_, Pool>,
    column: Column,
    times: (i64, i64),
) -> Result<Vec<RunSummary>> {
    let mut runs = Vec::new();
    let mut after = None;
    loop {
        let (page, next) = list::with_time_between(db, column, times, after).await?;
        runs.extend(page);
        if next.is_none() {
            return Ok(runs);
        }
        after = next;
    }
}
