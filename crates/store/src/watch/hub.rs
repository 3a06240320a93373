//! Finds out what has been written, for all streams of a store.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use runtrail_audit::{Error, Result, RunQuery};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::hub_task::HubTask;
use super::sources::{Feed, Tail, Tree};
use crate::error;
use crate::store::AuditStore;

/// What the streams of a store follow, shared by all clones of the store.
///
/// The calls that write report here what they have written. A task reads it from the database, so
/// that streams only get what is committed; it also polls for what other processes have written.
/// The task runs while there are streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hub(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The number of streams. While there are none, a write costs only a look at this number.
    streams: AtomicUsize,
    /// Wakes the task.
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    tails: HashMap<String, Weak<Tail>>,
    trees: HashMap<String, Weak<Tree>>,
    feeds: HashMap<String, Weak<Feed>>,
    /// The runs that were started or finished, and their parents.
    written_runs: HashSet<String>,
    written_parents: HashSet<String>,
    /// Whether to look for writes of any kind.
    must_poll: bool,
}

/// What the task has to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) tails: Vec<Arc<Tail>>,
    pub(super) trees: Vec<Arc<Tree>>,
    pub(super) feeds: Vec<Arc<Feed>>,
    pub(super) written_runs: HashSet<String>,
    pub(super) written_parents: HashSet<String>,
    pub(super) poll: Poll,
}

/// Whether to look for writes of any kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Poll {
    #[default]
    None,
    /// If the database may have changed.
    IfCommitted,
    Always,
}

/// Keeps the task running.
#[derive(Debug)]
pub(super) struct Registration(Hub);

impl Drop for Registration {
    fn drop(&mut self) {
        if self.0.0.streams.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.0.wake.notify_one();
        }
    }
}

impl Hub {
    fn has_streams(&self) -> bool {
        self.0.streams.load(Ordering::SeqCst) > 0
    }

    /// Reports a stored event.
    pub(crate) fn event_written(&self, run_id: &str, sequence: u64) {
        if !self.has_streams() {
            return;
        }
        let tail = self.0.lock().tails.get(run_id).and_then(Weak::upgrade);
        if let Some(tail) = tail {
            tail.lock().event_written(sequence);
            self.0.wake.notify_one();
        }
    }

    /// Reports a run that was started or finished.
    pub(crate) fn run_written(&self, run_id: &str, parent_run_id: Option<&str>) {
        if !self.has_streams() {
            return;
        }
        let mut state = self.0.lock();
        let tail = state.tails.get(run_id).and_then(Weak::upgrade);
        if !state.trees.is_empty() || !state.feeds.is_empty() {
            state.written_runs.insert(run_id.to_owned());
            state
                .written_parents
                .extend(parent_run_id.map(str::to_owned));
        } else if tail.is_none() {
            return;
        }
        drop(state);
        if let Some(tail) = tail {
            tail.lock().run_written();
        }
        self.0.wake.notify_one();
    }

    /// Reports a write of which it isn't known what it has changed.
    pub(crate) fn something_written(&self) {
        if self.has_streams() {
            self.0.poll();
        }
    }

    /// Makes the streams notice that the store was closed.
    pub(crate) fn store_closed(&self) {
        self.something_written();
    }

    /// Registers a stream.
    pub(super) fn register(&self) -> Registration {
        self.0.streams.fetch_add(1, Ordering::SeqCst);
        Registration(self.clone())
    }

    /// Starts the task, unless it is running. It ends with its runtime, and is then started again
    /// on the runtime of another stream.
    ///
    /// # Errors
    ///
    /// There is no tokio runtime.
    pub(super) fn ensure_running(&self, store: &AuditStore) -> Result<()> {
        let mut state = self.0.lock();
        if state.is_running {
            return Ok(());
        }
        let runtime = Handle::try_current().map_err(error::runtime)?;
        state.is_running = true;
        drop(state);
        let running = RunningTask {
            shared: Arc::clone(&self.0),
            has_ended: false,
        };
        runtime.spawn(HubTask::new(store.clone(), running).run());
        Ok(())
    }

    /// Returns the events of a run.
    pub(super) fn tail(&self, run_id: &str) -> Arc<Tail> {
        let mut state = self.0.lock();
        let has_ended = |tail: Arc<Tail>| tail.lock().events.followers.outcome().is_some();
        if state
            .tails
            .get(run_id)
            .and_then(Weak::upgrade)
            .is_some_and(has_ended)
        {
            // Another run may have been stored with this id since.
            state.tails.remove(run_id);
        }
        let new = || Tail::new(run_id);
        shared(&mut state.tails, run_id.to_owned(), new, &self.0.wake)
    }

    /// Returns the runs of a tree.
    pub(super) fn tree(&self, root_id: &str) -> Arc<Tree> {
        let mut state = self.0.lock();
        let new = || Tree::new(root_id);
        shared(&mut state.trees, root_id.to_owned(), new, &self.0.wake)
    }

    /// Returns the runs that match a query.
    pub(super) fn feed(&self, query: &RunQuery) -> Result<Arc<Feed>> {
        let query = query.clone().sorted();
        let key = serde_json::to_string(&query).map_err(error::json)?;
        let mut state = self.0.lock();
        state.must_poll = true;
        Ok(shared(
            &mut state.feeds,
            key,
            || Feed::new(&query),
            &self.0.wake,
        ))
    }

    /// Looks for new events of a run.
    pub(super) fn wake(&self) {
        self.0.wake.notify_one();
    }
}

/// Returns the source with this key, or a new one.
fn shared<T>(
    sources: &mut HashMap<String, Weak<T>>,
    key: String,
    new: impl FnOnce() -> T,
    wake: &Notify,
) -> Arc<T> {
    if let Some(source) = sources.get(&key).and_then(Weak::upgrade) {
        return source;
    }
    let source = Arc::new(new());
    sources.insert(key, Arc::downgrade(&source));
    wake.notify_one();
    source
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self) {
        self.lock().must_poll = true;
        self.wake.notify_one();
    }
}

/// The running task's access to what the streams follow.
pub(super) struct RunningTask {
    shared: Arc<Shared>,
    has_ended: bool,
}

impl RunningTask {
    /// Waits until something has been written.
    pub(super) async fn written(&self) {
        self.shared.wake.notified().await;
    }

    /// Continues after the next pause.
    pub(super) fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Ends the task if there are no more streams; returns whether it has ended.
    pub(super) fn end_if_unused(&mut self) -> bool {
        let mut state = self.shared.lock();
        if self.shared.streams.load(Ordering::SeqCst) > 0 {
            return false;
        }
        *state = State::default();
        self.has_ended = true;
        true
    }

    /// Returns what has been written since the last call, and what to poll.
    pub(super) fn take_work(&self, is_poll_due: bool) -> Work {
        let mut state = self.shared.lock();
        let State {
            tails,
            trees,
            feeds,
            written_runs,
            written_parents,
            must_poll,
            ..
        } = &mut *state;
        Work {
            tails: living(tails),
            trees: living(trees),
            feeds: living(feeds),
            written_runs: std::mem::take(written_runs),
            written_parents: std::mem::take(written_parents),
            poll: match (std::mem::take(must_poll), is_poll_due) {
                (true, _) => Poll::Always,
                (false, true) => Poll::IfCommitted,
                (false, false) => Poll::None,
            },
        }
    }

    /// Returns work that has failed.
    pub(super) fn put_back(&self, work: Work) {
        for tail in &work.tails {
            tail.lock().read_again();
        }
        let mut state = self.shared.lock();
        state.must_poll = true;
        state.written_runs.extend(work.written_runs);
        state.written_parents.extend(work.written_parents);
    }

    /// Ends all streams with an error.
    pub(super) fn fail(&mut self, err: &Error) {
        let mut state = self.shared.lock();
        for tail in living(&mut state.tails) {
            tail.lock().events.followers.finish(Err(err.clone()));
        }
        for tree in living(&mut state.trees) {
            tree.lock().followers.finish(Err(err.clone()));
        }
        for feed in living(&mut state.feeds) {
            feed.lock().runs.followers.finish(Err(err.clone()));
        }
        *state = State::default();
        self.has_ended = true;
    }
}

impl Drop for RunningTask {
    /// Wakes the streams if the task was ended by its runtime: one of them starts it again.
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut state = self.shared.lock();
        state.is_running = false;
        state.must_poll = true;
        for tail in living(&mut state.tails) {
            tail.lock().events.followers.wake();
        }
        for tree in living(&mut state.trees) {
            tree.lock().followers.wake();
        }
        for feed in living(&mut state.feeds) {
            feed.lock().runs.followers.wake();
        }
    }
}

/// Returns the sources that streams still follow, and forgets the others.
fn living<T>(sources: &mut HashMap<String, Weak<T>>) -> Vec<Arc<T>> {
    let mut living = Vec::with_capacity(sources.len());
    sources.retain(|_, source| match source.upgrade() {
        Some(source) => {
            living.push(source);
            true
        }
        None => false,
    });
    living
}
