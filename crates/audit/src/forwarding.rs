//! Implements every trait of a history for `&T`, `Box<T>` and `Arc<T>`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_core::stream::BoxStream;

use crate::{
    Budget, BudgetStatus, Budgets, BulkStorage, CallStatistics, CursorPage, Heartbeat, ListOrder,
    LogFilter, ModelUsage, Owner, OwnerRecord, Ownership, Page, PageRequest, PagedStorage,
    PurgeBatch, PurgeSize, PurgeSummary, ReservationRequest, Result, Retention, RunCreation,
    RunFilter, RunLabels, RunLookup, RunQuery, RunStatistics, RunStats, RunSummary, RunTree,
    SkillRun, SkillRunLog, Spending, StagedRecord, Staging, Statistics, StatisticsQuery,
    StatisticsRow, Storage, SubtreeTotals, UsageTotals, WaitingGroup, Watch, WatchStart, Watched,
};

/// Implements a trait for each kind of pointer. `clippy::missing_trait_methods` reports a missing
/// method, even if the trait has a default for it.
macro_rules! forward {
    ($name:ident { $($methods:tt)* }) => {
        forward!(@for &T, $name { $($methods)* });
        forward!(@for Box<T>, $name { $($methods)* });
        forward!(@for Arc<T>, $name { $($methods)* });
    };
    (@for $pointer:ty, $name:ident {
        $(async fn $asynchronous:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
        $(fn $immediate:ident($($parameter:ident: $kind:ty),*) -> $returned:ty;)*
    }) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: $name + ?Sized> $name for $pointer {
            $(async fn $asynchronous(&self $(, $argument: $type)*) -> $answer {
                (**self).$asynchronous($($argument),*).await
            })*

            $(fn $immediate(&self $(, $parameter: $kind)*) -> $returned {
                (**self).$immediate($($parameter),*)
            })*
        }
    };
}

forward!(Storage {
    async fn initialize() -> Result<()>;
    async fn start_run(run: &SkillRun) -> Result<()>;
    async fn finish_run(run_id: &str, stats: &RunStats) -> Result<()>;
    async fn append_log(event: &SkillRunLog) -> Result<()>;
    async fn get_run(run_id: &str) -> Result<SkillRun>;
    async fn list_logs_by_run(run_id: &str) -> Result<Vec<SkillRunLog>>;
    async fn list_runs_by_skill(skill_id: &str, limit: Option<u64>) -> Result<Vec<SkillRun>>;
    async fn list_runs_by_skill_paginated(
        skill_id: &str,
        page: Page,
        include_dry_run: bool
    ) -> Result<Vec<SkillRun>>;
    async fn count_runs_by_skill(skill_id: &str, include_dry_run: bool) -> Result<u64>;
    async fn list_runs_by_caller(caller_id: &str, limit: Option<u64>) -> Result<Vec<SkillRun>>;
    async fn list_runs_filtered(filter: &RunFilter, page: Page) -> Result<Vec<SkillRun>>;
    async fn count_runs_filtered(filter: &RunFilter) -> Result<u64>;
    async fn purge_older_than(cutoff: DateTime<Utc>) -> Result<u64>;
    async fn list_children_by_parent(parent_run_id: &str) -> Result<Vec<SkillRun>>;
    async fn walk_parent_chain(run_id: &str) -> Result<Vec<SkillRun>>;
    async fn list_finished_runs_before(
        cutoff: DateTime<Utc>,
        limit: Option<u64>
    ) -> Result<Vec<SkillRun>>;
    async fn last_run_by_skills(
        skill_ids: &[String],
        include_failed: bool
    ) -> Result<HashMap<String, DateTime<Utc>>>;
});

forward!(BulkStorage {
    async fn append_logs(events: &[SkillRunLog]) -> Result<()>;
    fn stream_runs(
        filter: &RunFilter,
        order: ListOrder,
        page: Page
    ) -> BoxStream<'_, Result<SkillRun>>;
    fn stream_runs_by_query(
        query: &RunQuery,
        order: ListOrder,
        page: Page
    ) -> BoxStream<'_, Result<SkillRun>>;
    fn stream_logs(
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder
    ) -> BoxStream<'_, Result<SkillRunLog>>;
});

forward!(PagedStorage {
    async fn page_runs(
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest
    ) -> Result<CursorPage<SkillRun>>;
    async fn page_run_summaries(
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest
    ) -> Result<CursorPage<RunSummary>>;
    async fn count_runs_by_query(query: &RunQuery) -> Result<u64>;
    async fn page_logs(
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder,
        request: &PageRequest
    ) -> Result<CursorPage<SkillRunLog>>;
});

forward!(RunTree {
    async fn list_children(run_id: &str) -> Result<Vec<RunSummary>>;
    async fn list_subtree(run_id: &str) -> Result<Vec<RunSummary>>;
    async fn subtree_totals(
        run_ids: &[String],
        query: &RunQuery,
        max_runs: u64
    ) -> Result<Vec<SubtreeTotals>>;
});

forward!(RunCreation {
    async fn create_run(run: &SkillRun) -> Result<()>;
});

forward!(RunLookup {
    async fn find_run_ids(prefix: &str, suffix: &str, limit: u64) -> Result<Vec<String>>;
    async fn adjacent_run_ids(ids: &[String]) -> Result<Vec<String>>;
    async fn find_runs(run_ids: &[String], query: &RunQuery) -> Result<Vec<RunSummary>>;
    async fn list_ancestors(run_id: &str) -> Result<Vec<RunSummary>>;
    async fn count_children(run_id: &str) -> Result<u64>;
});

forward!(RunLabels {
    async fn add_labels(run_id: &str, labels: &BTreeMap<String, String>) -> Result<()>;
});

forward!(UsageTotals {
    async fn usage_by_model(run_ids: &[String]) -> Result<Vec<ModelUsage>>;
});

forward!(Statistics {
    async fn run_statistics(query: &StatisticsQuery) -> Result<Vec<StatisticsRow<RunStatistics>>>;
    async fn call_statistics(query: &StatisticsQuery) -> Result<Vec<StatisticsRow<CallStatistics>>>;
});

forward!(Ownership {
    async fn heartbeat() -> Result<Heartbeat>;
    async fn sweep_interrupted() -> Result<u64>;
    async fn find_owner(owner_id: &str) -> Result<Option<OwnerRecord>>;
    fn owner() -> Option<&Owner>;
});

forward!(Retention {
    async fn measure_purge(cutoff: DateTime<Utc>) -> Result<PurgeSize>;
    async fn purge_in_batches(
        cutoff: DateTime<Utc>,
        on_batch: &(dyn Fn(PurgeBatch) + Sync)
    ) -> Result<PurgeSummary>;
});

forward!(Staging {
    async fn stage(records: &[StagedRecord]) -> Result<()>;
    async fn waiting_groups(after: &str, limit: u64) -> Result<Vec<WaitingGroup>>;
    async fn waiting_records(group_id: &str, limit: u64) -> Result<Vec<StagedRecord>>;
    async fn find_staged(group_id: &str, ids: &[String]) -> Result<Vec<StagedRecord>>;
    async fn settle(group_id: &str, records: &[(String, String)]) -> Result<()>;
    async fn forget_settled(cutoff: DateTime<Utc>) -> Result<u64>;
});

forward!(Budgets {
    async fn set_budget(budget: &Budget) -> Result<()>;
    async fn remove_budget(name: &str) -> Result<()>;
    async fn list_budgets() -> Result<Vec<BudgetStatus>>;
    async fn find_budget(name: &str) -> Result<Option<BudgetStatus>>;
    async fn reserve(request: &ReservationRequest) -> Result<()>;
    async fn settle_reservation(id: &str, actual: &Spending) -> Result<()>;
});

forward!(Watch {
    fn watch_logs(
        run_id: &str,
        filter: &LogFilter,
        start: &WatchStart
    ) -> BoxStream<'static, Result<Watched<SkillRunLog>>>;
    fn watch_tree_logs(
        root_id: &str,
        filter: &LogFilter,
        start: &WatchStart
    ) -> BoxStream<'static, Result<Watched<SkillRunLog>>>;
    fn watch_runs(
        query: &RunQuery,
        start: &WatchStart
    ) -> BoxStream<'static, Result<Watched<RunSummary>>>;
});
