use async_trait::async_trait;

use crate::{
    CursorPage, ListOrder, LogFilter, PageRequest, Result, RunQuery, RunSummary, SkillRun,
    SkillRunLog, Storage,
};

/// Lists in pages that start at a cursor instead of a row number (keyset pagination).
///
/// A page deep in the list costs the same as the first one. Records that are stored between two
/// requests never cause a record to be skipped or repeated: those that sort after the cursor appear
/// on the following pages.
///
/// Runs are sorted by `started_at`, then by `id`; events by their sequence. A damaged row is left
/// out and reported through `tracing`, so a page can have fewer records than requested although
/// more follow.
///
/// # Cost of a page
///
/// A page reads few rows beyond its own if an index covers the filter: one skill, one caller, one
/// channel or one status, top-level runs, the children of a run, bounds of the start, or no filter.
/// All other conditions are checked on each row of that index: lists, exclusions, and bounds of the
/// finish, duration and tokens. Such a page reads rows until enough of them match, in the worst
/// case all that the index yields. A filter for runs without a stored parent also looks up the
/// parent of each row by its id. With an id prefix, a page reads all runs whose ids have it.
///
/// # Errors
///
/// [`InvalidInput`](crate::Error::InvalidInput) for a limit out of bounds, a filter value that no
/// run can have (too long, containing a NUL, negative, not finite), and a cursor that is malformed
/// or belongs to another filter, order or list.
#[async_trait]
pub trait PagedStorage: Storage {
    /// Lists one page of the runs that match a query.
    ///
    /// ```
    /// # use runtrail_audit::{ListOrder, PageRequest, PagedStorage, Result, RunQuery};
    /// # async fn example(store: impl PagedStorage) -> Result<()> {
    /// let failed = RunQuery::new().statuses(["error", "timeout"]);
    /// let first = PageRequest::first(100);
    /// let mut page = store.page_runs(&failed, ListOrder::NewestFirst, &first).await?;
    /// loop {
    ///     for run in &page.items {
    ///         println!("{}: {}", run.id, run.error);
    ///     }
    ///     let Some(next) = page.next else { return Ok(()) };
    ///     let next = PageRequest::first(100).at(next);
    ///     page = store.page_runs(&failed, ListOrder::NewestFirst, &next).await?;
    /// }
    /// # }
    /// ```
    async fn page_runs(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRun>>;

    /// Lists one page of runs without their inputs, output and error, which are not read from the
    /// database.
    ///
    /// Its cursors and those of [`page_runs`](Self::page_runs) are interchangeable.
    async fn page_run_summaries(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<RunSummary>>;

    /// Counts the runs that match a query, damaged rows included.
    async fn count_runs_by_query(&self, query: &RunQuery) -> Result<u64>;

    /// Lists one page of the events of a run; empty for an unknown run.
    async fn page_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRunLog>>;
}

const _: fn(&dyn PagedStorage) = |_| {};
