use async_trait::async_trait;
use futures_core::stream::BoxStream;

use crate::{
    ListOrder, LogFilter, Page, Result, RunFilter, RunQuery, SkillRun, SkillRunLog, Storage,
};

/// Many records at a time, in bounded memory.
///
/// **Streams** read some rows at a time, each time with a query of its own, so that they hold no connection and
/// no lock while their consumer is busy. What is written meanwhile is seen if it comes later in the order.
///
/// A damaged row is an item, [`Corrupt`](crate::Error::Corrupt), after which the stream goes on. Any other error
/// is its last item.
#[async_trait]
pub trait BulkStorage: Storage {
    /// Stores many events, as if by [`append_log`](Storage::append_log) for each in turn, but much faster: one
    /// statement takes up to 1,000 events, or 4 MiB.
    ///
    /// Each statement commits by itself. When the future is dropped, those that were sent are there; the same
    /// call again completes the rest.
    ///
    /// # Errors
    ///
    /// Those of [`append_log`](Storage::append_log), for the first event that earns one.
    /// [`InvalidInput`](crate::Error::InvalidInput) and [`TooLarge`](crate::Error::TooLarge) are found out before
    /// anything is stored; a [`Conflict`](crate::Error::Conflict) or [`NotFound`](crate::Error::NotFound) keeps
    /// none of the other events from being stored.
    async fn append_logs(&self, events: &[SkillRunLog]) -> Result<()>;

    /// The runs of a page of those that a filter takes, one by one.
    ///
    /// Some 25 are held at a time.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput), as the only item, for a filter that nothing can match.
    fn stream_runs(
        &self,
        filter: &RunFilter,
        order: ListOrder,
        page: Page,
    ) -> BoxStream<'_, Result<SkillRun>>;

    /// The same as [`stream_runs`](Self::stream_runs), by a wider filter.
    fn stream_runs_by_query(
        &self,
        query: &RunQuery,
        order: ListOrder,
        page: Page,
    ) -> BoxStream<'_, Result<SkillRun>>;

    /// The events of a run, one by one; none for an unknown run.
    ///
    /// Some 100 are held at a time.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput), as the only item, for a run id, an event type or a sequence
    /// that can't be.
    fn stream_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder,
    ) -> BoxStream<'_, Result<SkillRunLog>>;
}

const _: fn(&dyn BulkStorage) = |_| {};
