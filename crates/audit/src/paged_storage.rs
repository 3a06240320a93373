use async_trait::async_trait;

use crate::{
    CursorPage, ListOrder, LogFilter, PageRequest, Result, RunQuery, RunSummary, SkillRun,
    SkillRunLog, Storage,
};

/// Pages that go on from a place in the list instead of counting rows from its start.
///
/// The page after ten thousand others costs what the first one costs, and nothing is skipped or shown twice when
/// records come in meanwhile: those that come later in the order than the cursor are on the pages that follow.
///
/// Runs go by `started_at`, then by `id`; events by their sequence. A damaged row is left out and reported through
/// `tracing`, so a page may have fewer records than were asked for with more to come.
///
/// # What a page costs
///
/// A page reads little more than its rows when one index leads to them: with one skill, one caller, one channel or one
/// status, top-level runs, the children of a run, bounds of the start, or nothing at all. What else is asked for is
/// looked up in each row on the way: lists and exclusions, the finish, runtimes and tokens cost as many rows as there
/// are until enough fit, up to all that the index leads to. For runs without a stored parent, the parent of each row is
/// looked up by its id as well. An id prefix reads the runs with such ids.
///
/// # Errors
///
/// [`InvalidInput`](crate::Error::InvalidInput) for a limit out of bounds, a value in the filter that no run can have
/// (too long, with a NUL, negative, not finite), and a cursor that is damaged or belongs to another filter, order or list.
#[async_trait]
pub trait PagedStorage: Storage {
    /// A page of runs.
    ///
    /// ```
    /// # use runtrail_audit::{ListOrder, PageRequest, PagedStorage, Result, RunQuery};
    /// # async fn example(store: impl PagedStorage) -> Result<()> {
    /// let failed = RunQuery::new().statuses(["error", "timeout"]);
    /// let mut page = store.page_runs(&failed, ListOrder::NewestFirst, &PageRequest::first(100)).await?;
    /// loop {
    ///     for run in &page.items {
    ///         println!("{}: {}", run.id, run.error);
    ///     }
    ///     let Some(next) = page.next else { return Ok(()) };
    ///     page = store.page_runs(&failed, ListOrder::NewestFirst, &PageRequest::first(100).at(next)).await?;
    /// }
    /// # }
    /// ```
    async fn page_runs(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRun>>;

    /// The same without their long texts: the inputs, the output and the error are not even read.
    ///
    /// Cursors of the one are cursors of the other.
    async fn page_run_summaries(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<RunSummary>>;

    /// How many runs a query takes, damaged rows counted.
    async fn count_runs_by_query(&self, query: &RunQuery) -> Result<u64>;

    /// A page of the events of a run; empty for an unknown run.
    async fn page_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRunLog>>;
}

const _: fn(&dyn PagedStorage) = |_| {};
