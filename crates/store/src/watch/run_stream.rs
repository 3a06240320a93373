//! Streams the runs that match a query.

use std::collections::VecDeque;
use std::sync::Arc;

use runtrail_audit::{
    Cursor, ListOrder, PageRequest, Result, RunQuery, RunSummary, WatchStart, Watched, rules,
};
use runtrail_entity::skill_run::Column;
use sea_orm::sea_query::Expr;
use tokio::sync::Notify;
use tracing::debug_span;

use super::backlog::News;
use super::follow::{Follow, wait};
use super::hub::Registration;
use super::recent_runs::RecentRuns;
use super::sources::Feed;
use crate::codec::{self, ListId};
use crate::read::list;
use crate::store::AuditStore;

/// The number of changes that a cursor contains.
const CURSOR_CHANGES: usize = 32;

pub(super) struct RunStream {
    store: AuditStore,
    query: RunQuery,
    list: ListId,
    feed: Arc<Feed>,
    /// The number of the next run that arrives.
    arrived: u64,
    delivered: RecentRuns,
    phase: Phase,
    /// Changes up to this time count as delivered until what is stored has been read.
    ignored_until: Option<i64>,
    /// What has been read, but not delivered.
    runs: VecDeque<RunSummary>,
    stream: Arc<Notify>,
    _registration: Registration,
}

enum Phase {
    /// Waits until further changes will arrive.
    Unready,
    /// Reads the runs that have started. Those that have finished recently are left to the next
    /// phase.
    Started {
        query: Box<RunQuery>,
        after: Option<Cursor>,
    },
    /// Reads the runs that have finished recently.
    Finished {
        times: (i64, i64),
        after: Option<Vec<Expr>>,
    },
    Arriving,
}

impl RunStream {
    pub(super) fn open(store: &AuditStore, query: &RunQuery, start: &WatchStart) -> Result<Self> {
        let list = ListId::of_watched_runs(query)?;
        let now = rules::micros(store.now());
        let delivered = match start {
            WatchStart::After(cursor) => {
                let delivered: RecentRuns = codec::decode_position(list, cursor)?;
                delivered.with_keys()
            }
            WatchStart::Now => RecentRuns::until(now),
            _ => RecentRuns::nothing(now),
        };
        // From here on, writes of this store are reported.
        let registration = store.hub().register();
        let stream = Arc::new(Notify::new());
        let feed = store.hub().feed(query)?;
        let arrived = {
            let mut state = feed.lock();
            state.runs.followers.add(&stream);
            state.runs.end()
        };
        Ok(Self {
            store: store.clone(),
            query: query.clone(),
            list,
            feed,
            arrived,
            delivered,
            phase: Phase::Unready,
            ignored_until: matches!(start, WatchStart::Now).then_some(now),
            runs: VecDeque::new(),
            stream,
            _registration: registration,
        })
    }

    /// Starts to read what is stored.
    fn read_stored(&mut self, now: i64) {
        let (from, _) = self.delivered.starts(now);
        let mut query = Box::new(self.query.clone());
        // None if all times are later.
        if let Some(from) = chrono::DateTime::from_timestamp_micros(from) {
            query.started.from = query.started.from.max(Some(from));
        }
        self.phase = Phase::Started { query, after: None };
    }

    /// Reads more runs; returns whether this has changed anything.
    async fn advance(&mut self) -> Result<bool> {
        let now = rules::micros(self.store.now());
        let store = self.store.clone();
        let db = store.reading(debug_span!("watch_runs")).await?;
        let (runs, next) = match &self.phase {
            Phase::Unready => {
                if !self.feed.lock().is_ready {
                    return Ok(false);
                }
                self.read_stored(now);
                return Ok(true);
            }
            Phase::Started { query, after } => {
                let request = PageRequest::first(PageRequest::MAX_LIMIT).at(after.clone());
                let page =
                    list::page_of_summaries(&db, query, ListOrder::OldestFirst, &request).await?;
                let (recent, _) = self.delivered.finishes(now);
                let is_recent = |run: &RunSummary| {
                    run.finished_at
                        .is_some_and(|at| rules::micros(at) >= recent)
                };
                let mut runs = page.items;
                runs.retain(|run| !is_recent(run));
                let next = match page.next {
                    Some(after) => Phase::Started {
                        query: query.clone(),
                        after: Some(after),
                    },
                    None => Phase::Finished {
                        times: self.delivered.finishes(now),
                        after: None,
                    },
                };
                (runs, next)
            }
            Phase::Finished { times, after } => {
                let column = Column::FinishedAt;
                let (runs, after) =
                    list::with_time_between(&db, column, *times, after.clone()).await?;
                let ids: Vec<_> = runs.into_iter().map(|run| run.id).collect();
                let runs = match ids.is_empty() {
                    true => Vec::new(),
                    false => list::matching(&db, &self.query, &ids).await?,
                };
                let next = match after {
                    Some(after) => Phase::Finished {
                        times: *times,
                        after: Some(after),
                    },
                    None => Phase::Arriving,
                };
                (runs, next)
            }
            Phase::Arriving => return self.take_arrived(now),
        };
        for run in runs {
            match self.ignored_until {
                Some(time) if time_of_change(&run) <= time => {
                    self.delivered.insert(&run, now);
                }
                _ => self.runs.push_back(run),
            }
        }
        if let Phase::Arriving = next {
            self.ignored_until = None;
        }
        self.phase = next;
        Ok(true)
    }

    fn take_arrived(&mut self, now: i64) -> Result<bool> {
        let news = self.feed.lock().runs.since(&mut self.arrived);
        match news {
            News::Items(runs) if runs.is_empty() => return Ok(false),
            News::Items(runs) => {
                let runs = runs.iter().map(|run| RunSummary::clone(run));
                self.runs.extend(runs);
            }
            News::Lost => self.read_stored(now),
            News::End(outcome) => outcome?,
        }
        Ok(true)
    }
}

/// When a run has changed last, in microseconds.
fn time_of_change(run: &RunSummary) -> i64 {
    rules::micros(run.finished_at.unwrap_or(run.started_at))
}

impl Follow for RunStream {
    type Item = RunSummary;

    async fn next(&mut self) -> Result<Option<Watched<RunSummary>>> {
        loop {
            let now = rules::micros(self.store.now());
            while let Some(run) = self.runs.pop_front() {
                if !self.delivered.insert(&run, now) {
                    continue;
                }
                if let Phase::Started { .. } = self.phase {
                    self.delivered.advance_starts(&run, now);
                }
                let position = self.delivered.latest(CURSOR_CHANGES);
                let cursor = codec::encode_position(self.list, &position)?;
                return Ok(Some(Watched::new(run, cursor)));
            }
            if !self.advance().await? {
                wait(&self.store, &self.stream, None).await?;
            }
        }
    }
}
