use async_trait::async_trait;
use futures_core::stream::BoxStream;

use crate::{
    ListOrder, LogFilter, Page, Result, RunFilter, RunQuery, SkillRun, SkillRunLog, Storage,
};

/// Reads and writes many records in bounded memory.
///
/// **Streams** read a few rows at a time, with a separate query each time. Between two queries they
/// hold no connection and no lock. A record that is written meanwhile is included if its position
/// is after the rows that were already read.
///
/// A damaged row is an item, [`Corrupt`](crate::Error::Corrupt), and the stream continues after it.
/// Any other error ends the stream.
#[async_trait]
pub trait BulkStorage: Storage {
    /// Stores many events. The result is the same as calling [`append_log`](Storage::append_log)
    /// for each event in turn, but this is much faster: one statement writes a batch of up to 1,000
    /// events and 4 MiB.
    ///
    /// Each batch is committed separately. If the future is dropped, the batches sent so far are
    /// stored; repeating the call stores the rest.
    ///
    /// # Errors
    ///
    /// Those of [`append_log`](Storage::append_log), for the first event that fails.
    /// [`InvalidInput`](crate::Error::InvalidInput) and [`TooLarge`](crate::Error::TooLarge) are
    /// returned before anything is stored. After a [`Conflict`](crate::Error::Conflict) or
    /// [`NotFound`](crate::Error::NotFound), all other events are stored.
    async fn append_logs(&self, events: &[SkillRunLog]) -> Result<()>;

    /// Streams one page of the runs that match a filter.
    ///
    /// Each query reads up to 25 runs.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput), as the only item, for a filter with a value
    /// that no run can have.
    fn stream_runs(
        &self,
        filter: &RunFilter,
        order: ListOrder,
        page: Page,
    ) -> BoxStream<'_, Result<SkillRun>>;

    /// Streams one page of the runs that match a query; otherwise like
    /// [`stream_runs`](Self::stream_runs).
    fn stream_runs_by_query(
        &self,
        query: &RunQuery,
        order: ListOrder,
        page: Page,
    ) -> BoxStream<'_, Result<SkillRun>>;

    /// Streams the events of a run; empty for an unknown run.
    ///
    /// Each query reads up to 100 events.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput), as the only item, for an invalid run id, event
    /// type or sequence.
    fn stream_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder,
    ) -> BoxStream<'_, Result<SkillRunLog>>;
}

const _: fn(&dyn BulkStorage) = |_| {};
