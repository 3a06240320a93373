use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{Cursor, LogFilter, Result, RunQuery, RunSummary, SkillRunLog, Storage};

/// An item of a stream of [`Watch`], and the position after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use]
pub struct Watched<T> {
    /// The event, or the run.
    pub item: T,
    /// Where [`WatchStart::After`] continues: after this item.
    pub cursor: Cursor,
}

impl<T> Watched<T> {
    /// Combines an item with the position after it.
    pub fn new(item: T, cursor: Cursor) -> Self {
        Self { item, cursor }
    }
}

/// Where a stream of [`Watch`] starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WatchStart {
    /// With everything that is stored.
    #[default]
    Beginning,
    /// With what is stored from now on. The stream needs a moment after its first poll to find out
    /// what is already stored; it may leave out what is stored in that moment.
    Now,
    /// After the item with this cursor. The cursor is from a stream with the same arguments,
    /// possibly of another process.
    After(Cursor),
}

/// Streams that continue with what is stored later.
///
/// A stream first returns what is already stored, as its [`WatchStart`] says, and then waits. What
/// this store writes arrives within a few hundredths of a second, and what other processes write
/// after the next poll of the database. All streams of a store share one poll, however many there
/// are. Each item comes after its commit, is read from the database, and has a [`Cursor`] to
/// continue after it.
///
/// **Order.** Each event arrives once, and the events of a run arrive by sequence. At a gap the
/// stream waits for other writers, for at most half a second, and then continues. An event that is
/// stored in a gap after that is still delivered, later than its sequence says, as long as its gap
/// is among the latest 1,024 of the stream, or the latest 64 of the cursor that it was resumed from.
///
/// **Failures.** A stream waits while the database is unavailable, and then continues without a
/// gap. A damaged row is an item, [`Corrupt`](crate::Error::Corrupt), and the stream continues
/// after it. Any other error is the last item; so is the error after the store was closed.
///
/// A stream owns what it needs, and does nothing until it is polled. It buffers a bounded number of
/// items: one that is polled rarely reads what it has missed from the database. When a stream is
/// dropped, its reads end; when the last one is dropped, so does the poll.
///
/// ```
/// use std::future::poll_fn;
/// use std::pin::Pin;
///
/// use futures_core::Stream;
/// use runtrail_audit::{LogFilter, Result, Watch, WatchStart};
///
/// async fn follow(history: &dyn Watch, run_id: &str) -> Result<()> {
///     let mut events = history.watch_logs(run_id, &LogFilter::new(), &WatchStart::Beginning);
///     while let Some(event) = poll_fn(|cx| Pin::new(&mut events).poll_next(cx)).await {
///         println!("{}", event?.item.event_type);
///     }
///     Ok(())
/// }
/// ```
pub trait Watch: Storage {
    /// Streams the events of a run; ends after the last one once the run has finished, or if the
    /// run is deleted.
    ///
    /// # Errors
    ///
    /// As the last item: [`NotFound`](crate::Error::NotFound) for an unknown run;
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid run id or filter, or a cursor
    /// that is malformed or from a stream with other arguments.
    fn watch_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        start: &WatchStart,
    ) -> BoxStream<'static, Result<Watched<SkillRunLog>>>;

    /// Streams the events of a run and of all its descendants, also of those that start later; ends
    /// once the run has finished and none of its descendants is running.
    ///
    /// The events of each run are in order; those of different runs are interleaved.
    /// [`LogFilter::after`] applies to each run. A cursor contains the positions in 64 runs: those
    /// that are running, and those with the latest events. If the tree is larger, a run that a
    /// resumed stream finds without a position counts as delivered if it had finished before one
    /// that the cursor has left out.
    ///
    /// # Errors
    ///
    /// Those of [`watch_logs`](Self::watch_logs).
    fn watch_tree_logs(
        &self,
        root_id: &str,
        filter: &LogFilter,
        start: &WatchStart,
    ) -> BoxStream<'static, Result<Watched<SkillRunLog>>>;

    /// Streams the runs that match a query: a run when it starts, and again whenever its status or
    /// finish time has changed, as it is then. Never ends.
    ///
    /// If a run changes again before it is read, it is one item. From the
    /// [beginning](WatchStart::Beginning), the stored runs come first, from the oldest to the
    /// newest.
    ///
    /// A run that another process stores is found by its start or finish time: it is missed if both
    /// are more than ten seconds in the past when it is stored, as in an import. The same applies
    /// to what this store writes while the stream is not running. At more than a hundred changes
    /// per second, these ten seconds shrink to the latest 1,000 changes, and in a cursor to the
    /// latest 32.
    ///
    /// # Errors
    ///
    /// As the last item: [`InvalidInput`](crate::Error::InvalidInput) for a query with a value that
    /// no run can have, or a cursor that is malformed or from a stream with another query.
    fn watch_runs(
        &self,
        query: &RunQuery,
        start: &WatchStart,
    ) -> BoxStream<'static, Result<Watched<RunSummary>>>;
}

const _: fn(&dyn Watch) = |_| {};
