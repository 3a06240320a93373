use async_trait::async_trait;
use runtrail_audit::{
    CursorPage, ListOrder, LogFilter, PageRequest, PagedStorage, Result, RunQuery, RunSummary,
    SkillRun, SkillRunLog,
};
use runtrail_db::Connection;

use crate::read::list;
use crate::statements::logs;
use crate::store::AuditStore;
use crate::traced::traced;

#[async_trait]
impl<C: Connection> PagedStorage for AuditStore<C> {
    async fn page_runs(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRun>> {
        traced!("page_runs", async {
            list::page(&self.reading().await?, query, order, request).await
        })
    }

    async fn page_run_summaries(
        &self,
        query: &RunQuery,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<RunSummary>> {
        traced!("page_run_summaries", async {
            list::page_of_summaries(&self.reading().await?, query, order, request).await
        })
    }

    async fn count_runs_by_query(&self, query: &RunQuery) -> Result<u64> {
        traced!("count_runs_by_query", async {
            list::count(&self.reading().await?, query).await
        })
    }

    async fn page_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder,
        request: &PageRequest,
    ) -> Result<CursorPage<SkillRunLog>> {
        traced!("page_logs", async {
            logs::page(&self.reading().await?, run_id, filter, order, request).await
        })
    }
}
