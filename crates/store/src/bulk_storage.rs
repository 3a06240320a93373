use std::sync::Arc;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use runtrail_audit::{
    BulkStorage, ListOrder, LogFilter, Page, Result, RunFilter, RunQuery, SkillRun, SkillRunLog,
};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::read::{chunk, list};
use crate::statements::logs;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> BulkStorage for AuditStore<C> {
    async fn append_logs(&self, events: &[SkillRunLog]) -> Result<()> {
        let db = self.writing(debug_span!("append_logs")).await?;
        let appended = logs::append_all(&db, events).await;
        // Even if it has failed, some batches may be stored.
        for event in events {
            self.hub().event_written(&event.run_id, event.sequence);
        }
        appended
    }

    fn stream_runs(
        &self,
        filter: &RunFilter,
        order: ListOrder,
        page: Page,
    ) -> BoxStream<'_, Result<SkillRun>> {
        self.stream_runs_by_query(&filter.into(), order, page)
    }

    fn stream_runs_by_query(
        &self,
        query: &RunQuery,
        order: ListOrder,
        page: Page,
    ) -> BoxStream<'_, Result<SkillRun>> {
        let query = Arc::new(query.clone());
        let runs = chunk::stream(move |after| {
            let query = Arc::clone(&query);
            async move {
                let db = self.reading(debug_span!("stream_runs_by_query")).await?;
                list::chunk(&db, &query, order, page, after).await
            }
        });
        match page.limit.map(usize::try_from) {
            Some(Ok(limit)) => runs.take(limit).boxed(),
            // No list is that long.
            Some(Err(_)) | None => runs,
        }
    }

    fn stream_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        order: ListOrder,
    ) -> BoxStream<'_, Result<SkillRunLog>> {
        let arguments = Arc::new((run_id.to_owned(), filter.clone()));
        chunk::stream(move |after| {
            let arguments = Arc::clone(&arguments);
            async move {
                let (run_id, filter) = &*arguments;
                let db = self.reading(debug_span!("stream_logs")).await?;
                logs::chunk(&db, run_id, filter, order, after).await
            }
        })
    }
}
