use async_trait::async_trait;
use runtrail_audit::{
    CursorPage, ListOrder, LogFilter, PageRequest, PagedStorage, Result, RunQuery, RunSummary,
    SkillRun, SkillRunLog,
};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::read::list;
use crate::statements::logs;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> PagedStorage for AuditStore<C> {
    async fn page_runs(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRun>> {
        let db = self.reading(debug_span!("page_runs")).await?;
        list::page(&db, query, order, request).await
    }

    async fn page_run_summaries(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<RunSummary>> {
        let db = self.reading(debug_span!("page_run_summaries")).await?;
        list::page_of_summaries(&db, query, order, request).await
    }

    async fn count_runs_by_query(&self, query: &RunQuery) -> Result<u64> {
        let db = self.reading(debug_span!("count_runs_by_query")).await?;
        list::count(&db, query).await
    }

    async fn page_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRunLog>> {
        let db = self.reading(debug_span!("page_logs")).await?;
        logs::page(&db, run_id, filter, order, request).await
    }
}
