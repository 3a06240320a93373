use crate::{
    Budgets, BulkStorage, Ownership, PagedStorage, Retention, RunCreation, RunLabels, RunLookup,
    RunTree, Staging, Statistics, Storage, UsageTotals, Watch,
};

/// All operations of a history: [`Storage`] and all traits that extend it.
///
/// Every type that implements these traits implements `History`, so a host can hold a single
/// `Arc<dyn History>`:
///
/// ```
/// use std::sync::Arc;
///
/// use runtrail_audit::{History, Result, RunQuery};
///
/// async fn failures(history: &Arc<dyn History>) -> Result<u64> {
///     history.count_runs_by_query(&RunQuery::new().statuses(["error"])).await
/// }
/// ```
pub trait History:
    Storage
    + BulkStorage
    + PagedStorage
    + RunTree
    + RunCreation
    + RunLookup
    + RunLabels
    + UsageTotals
    + Statistics
    + Ownership
    + Retention
    + Staging
    + Budgets
    + Watch
{
}

impl<T> History for T where
    T: Storage
        + BulkStorage
        + PagedStorage
        + RunTree
        + RunCreation
        + RunLookup
        + RunLabels
        + UsageTotals
        + Statistics
        + Ownership
        + Retention
        + Staging
        + Budgets
        + Watch
        + ?Sized
{
}

const _: fn(&dyn History) = |_| {};
