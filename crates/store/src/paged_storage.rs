use async_trait::async_trait;
use runtrail_audit::{
    CursorPage, ListOrder, LogFilter, PageRequest, PagedStorage, Result, RunQuery, RunSummary,
    SkillRun, SkillRunLog,
};
use runtrail_db::Connection;
use tracing::instrument;

use crate::read::list;
use crate::statements::logs;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> PagedStorage for AuditStore<C> {
    #[instrument(level = "debug", skip_all)]
    async fn page_runs(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRun>> {
        list::page(&self.reading().await?, query, order, request).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn page_run_summaries(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<RunSummary>> {
        list::page_of_summaries(&self.reading().await?, query, order, request).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn count_runs_by_query(&self, query: &RunQuery) -> Result<u64> {
        list::count(&self.reading().await?, query).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn page_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRunLog>> {
        logs::page(&self.reading().await?, run_id, filter, order, request).await
    }
}
