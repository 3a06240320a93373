//! Streams the events of a run and of its descendants.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hasher;
use std::sync::Arc;

use fnv::FnvHasher;
use runtrail_audit::{
    Error, LogFilter, Result, RunSummary, SkillRunLog, WatchStart, Watched, rules,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::debug_span;

use super::events::{self, RunEvents};
use super::follow::{Follow, wait};
use super::hub::Registration;
use super::log_stream::CURSOR_GAPS;
use super::position::Position;
use super::sources::Tree;
use crate::codec::{self, ListId};
use crate::statements::runs;
use crate::store::AuditStore;

/// The number of completely delivered runs that a cursor contains.
const CURSOR_RUNS: usize = 64;

/// When a run has finished, in microseconds, and its id: the order in which the stored events of
/// finished runs are delivered.
type Finish = (i64, String);

/// A position in the events of a tree, in a cursor.
#[derive(Debug, Default, Serialize, Deserialize)]
struct TreePosition {
    /// The hashes of runs, each with what has been delivered; `None` for all events.
    #[serde(rename = "r")]
    runs: Vec<(u64, Option<Position>)>,
    /// Runs up to this one that aren't in `runs` have been delivered.
    #[serde(rename = "d")]
    delivered: Option<Finish>,
}

pub(super) struct TreeStream {
    store: AuditStore,
    filter: LogFilter,
    list: ListId,
    tree: Arc<Tree>,
    /// The runs of the tree, as they were last looked at.
    runs: Option<Arc<Vec<RunSummary>>>,
    known: HashSet<String>,
    /// The runs of which events are missing. The next event is read from the first one.
    members: VecDeque<Member>,
    /// The latest runs whose events have all been delivered.
    complete: BTreeMap<Finish, u64>,
    /// Runs up to this one that aren't in `members` or `complete` have been delivered.
    delivered: Option<Finish>,
    start: Start,
    stream: Arc<Notify>,
    _registration: Registration,
}

struct Member {
    hash: u64,
    events: RunEvents,
    finish: Option<Finish>,
    /// Whether a stream that is resumed without its position would start at another one.
    has_moved: bool,
}

/// Where the events of a run start.
enum Start {
    Beginning,
    /// For runs that are found first, with what is stored later.
    Now,
    After(HashMap<u64, Option<Position>>),
}

impl TreeStream {
    pub(super) async fn open(
        store: &AuditStore,
        root_id: &str,
        filter: &LogFilter,
        start: &WatchStart,
    ) -> Result<Self> {
        events::check(root_id, filter)?;
        let list = ListId::of_watched_logs("watch_tree_logs", root_id, filter)?;
        let (start, delivered) = match start {
            WatchStart::After(cursor) => {
                let position: TreePosition = codec::decode_position(list, cursor)?;
                let runs = position.runs.into_iter().collect();
                (Start::After(runs), position.delivered)
            }
            WatchStart::Now => (Start::Now, None),
            _ => (Start::Beginning, None),
        };
        let db = store.reading(debug_span!("watch_tree_logs")).await?;
        if runs::are_finished(&db, &[root_id]).await?.is_empty() {
            return Err(Error::not_found(root_id));
        }
        let registration = store.hub().register();
        let stream = Arc::new(Notify::new());
        let tree = store.hub().tree(root_id);
        tree.lock().followers.add(&stream);
        Ok(Self {
            store: store.clone(),
            filter: filter.clone(),
            list,
            tree,
            runs: None,
            known: HashSet::new(),
            members: VecDeque::new(),
            complete: BTreeMap::new(),
            delivered,
            start,
            stream,
            _registration: registration,
        })
    }

    /// Adds the runs that are new in the tree.
    async fn add_members(&mut self, runs: Arc<Vec<RunSummary>>) -> Result<()> {
        let by_id: HashMap<_, _> = runs.iter().map(|run| (run.id.as_str(), run)).collect();
        for member in &mut self.members {
            member.finish = by_id
                .get(member.events.run_id())
                .and_then(|run| finish(run));
        }
        let mut new: Vec<_> = runs
            .iter()
            .filter(|run| !self.known.contains(&run.id))
            .collect();
        // The finished ones first, in the order in which a cursor forgets them.
        new.sort_by_key(|run| (run.finished_at.is_none(), finish(run)));
        for run in new {
            self.add_member(run).await?;
            self.known.insert(run.id.clone());
        }
        if matches!(self.start, Start::Now) {
            // Runs that are found later have started later.
            self.start = Start::Beginning;
        }
        self.runs = Some(runs);
        Ok(())
    }

    async fn add_member(&mut self, run: &RunSummary) -> Result<()> {
        let hash = hash(&run.id);
        let finish = finish(run);
        let is_from_now = matches!(self.start, Start::Now);
        let resumed = match &self.start {
            Start::After(positions) => positions.get(&hash).cloned(),
            Start::Now | Start::Beginning => None,
        };
        let was_resumed = resumed.is_some();
        let start = match (resumed, &finish) {
            (Some(Some(position)), _) => Some(position),
            (Some(None), Some(_)) => None,
            (None, Some(_)) if is_from_now => None,
            (None, Some(finish)) if self.delivered.as_ref().is_some_and(|last| finish <= last) => {
                None
            }
            _ => {
                let db = self.store.reading(debug_span!("watch_tree_logs")).await?;
                Some(events::first_position(&db, &run.id, &self.filter, is_from_now).await?)
            }
        };
        match (start, finish) {
            (Some(start), finish) => {
                let has_moved = is_from_now || was_resumed;
                let events = match finish {
                    Some(_) => RunEvents::of_finished(&run.id, start),
                    None => RunEvents::of_running(&run.id, start, self.store.hub(), &self.stream),
                };
                self.members.push_back(Member {
                    hash,
                    events,
                    finish,
                    has_moved,
                });
            }
            (None, Some(finish)) => self.complete(finish, hash),
            (None, None) => {}
        }
        Ok(())
    }

    /// Remembers a run whose events have all been delivered.
    fn complete(&mut self, finish: Finish, hash: u64) {
        self.complete.insert(finish, hash);
        if self.complete.len() <= CURSOR_RUNS {
            return;
        }
        let unread = self
            .members
            .iter()
            .filter_map(|member| member.finish.as_ref());
        let unread = unread.min().cloned();
        while self.complete.len() > CURSOR_RUNS / 2
            && let Some(oldest) = self.complete.first_entry()
            && unread.as_ref().is_none_or(|unread| oldest.key() < unread)
        {
            let (finish, _) = oldest.remove_entry();
            self.delivered = self.delivered.take().max(Some(finish));
        }
    }

    /// Returns the next event of the first run that has one.
    fn pop(&mut self) -> Option<Result<Watched<SkillRunLog>>> {
        for _ in 0..self.members.len() {
            let time = self.store.now();
            let member = self.members.front_mut()?;
            while let Some(arrival) = member.events.pop(time) {
                member.has_moved = true;
                match &arrival.1 {
                    Ok(event) if events::matches(&self.filter, event) => {
                        let cursor = codec::encode_position(self.list, &self.position());
                        return Some(cursor.map(|cursor| Watched::new(event.clone(), cursor)));
                    }
                    Ok(_) => {}
                    Err(err) => return Some(Err(err.clone())),
                }
            }
            self.members.rotate_left(1);
        }
        None
    }

    fn position(&self) -> TreePosition {
        let moved = self
            .members
            .iter()
            .filter(|it| it.has_moved || it.events.is_live());
        let gaps = (CURSOR_GAPS / self.members.len().max(1)).max(1);
        let moved = moved.map(|it| (it.hash, Some(it.events.delivered().with_gaps(gaps))));
        let complete = self.complete.values().map(|hash| (*hash, None));
        TreePosition {
            runs: moved.chain(complete).collect(),
            delivered: self.delivered.clone(),
        }
    }

    /// Looks for further events; returns whether this has changed anything.
    async fn advance(&mut self) -> Result<bool> {
        let runs = self.tree.lock().runs();
        if let Some(runs) = runs
            && self
                .runs
                .as_ref()
                .is_none_or(|known| !Arc::ptr_eq(known, &runs))
        {
            self.add_members(runs).await?;
            return Ok(true);
        }
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            let has_changed = member.events.advance(&self.store).await?;
            let is_complete = member.events.is_complete();
            if is_complete && let Some(finish) = member.finish.clone() {
                let hash = member.hash;
                self.members.remove(index);
                self.complete(finish, hash);
                return Ok(true);
            }
            if is_complete && self.is_deleted(index) {
                self.members.remove(index);
                return Ok(true);
            }
            if has_changed {
                // Its events are delivered before those of other runs are read.
                self.members.swap(0, index);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_deleted(&self, index: usize) -> bool {
        let run_id = self.members[index].events.run_id();
        let mut runs = self.runs.iter().flat_map(|runs| runs.iter());
        !runs.any(|run| run.id == run_id)
    }

    /// Whether no more events will arrive.
    fn has_ended(&self) -> bool {
        let is_finished = |run: &RunSummary| run.finished_at.is_some();
        self.members.is_empty()
            && self
                .runs
                .as_ref()
                .is_some_and(|runs| runs.iter().all(is_finished))
    }
}

impl Follow for TreeStream {
    type Item = SkillRunLog;

    async fn next(&mut self) -> Result<Option<Watched<SkillRunLog>>> {
        loop {
            if let Some(event) = self.pop() {
                return event.map(Some);
            }
            if self.advance().await? {
                continue;
            }
            if self.has_ended() {
                return Ok(None);
            }
            if let Some(outcome) = self.tree.lock().followers.outcome() {
                outcome.clone()?;
            }
            let waits = self
                .members
                .iter()
                .filter_map(|member| member.events.waits_until());
            let until = waits.min();
            wait(&self.store, &self.stream, until).await?;
        }
    }
}

fn finish(run: &RunSummary) -> Option<Finish> {
    run.finished_at
        .map(|at| (rules::micros(at), run.id.clone()))
}

/// A hash of a run's id, which has the same result in every build.
fn hash(run_id: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(run_id.as_bytes());
    hasher.finish()
}
