use async_trait::async_trait;

use crate::{Result, RunQuery, RunSummary, Storage};

/// Looks up runs by their ids or parts of them, and the ancestors and children of a run.
#[async_trait]
pub trait RunLookup: Storage {
    /// Lists at most `limit` ids that begin with `prefix` and end with `suffix`, in byte order.
    ///
    /// Each part may be empty. The two parts never overlap within an id. The query reads all ids
    /// with this prefix from the primary key.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for a part that no id can contain.
    async fn find_run_ids(&self, prefix: &str, suffix: &str, limit: u64) -> Result<Vec<String>>;

    /// Returns the stored ids directly before and after each of `ids` in byte order.
    ///
    /// A prefix of an id is unambiguous if neither neighbour begins with it.
    async fn adjacent_run_ids(&self, ids: &[String]) -> Result<Vec<String>>;

    /// Lists those of these runs that match a query, oldest first, without inputs, output and
    /// error. Ids of unknown runs are ignored.
    ///
    /// One query reads all of them.
    ///
    /// ```
    /// # use runtrail_audit::{Result, RunLookup, RunQuery};
    /// # async fn example(store: &impl RunLookup, ids: &[String]) -> Result<()> {
    /// let of_tenant = RunQuery::new().label("tenant", "a").include_dry_run();
    /// for run in store.find_runs(ids, &of_tenant).await? {
    ///     println!("{}", run.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an id or a filter value that no run can
    /// have.
    async fn find_runs(&self, run_ids: &[String], query: &RunQuery) -> Result<Vec<RunSummary>>;

    /// Lists the parent, its parent, and so on, without inputs, output and error. The run itself is
    /// left out; otherwise the result is that of [`walk_parent_chain`](Storage::walk_parent_chain).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid run id.
    async fn list_ancestors(&self, run_id: &str) -> Result<Vec<RunSummary>>;

    /// Counts the direct children of a run, dry runs included.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid run id.
    async fn count_children(&self, run_id: &str) -> Result<u64>;
}

const _: fn(&dyn RunLookup) = |_| {};
