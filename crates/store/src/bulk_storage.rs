use async_stream::stream;
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use runtrail_audit::{
    BulkStorage, LogFilter, Order, Page, Result, RunFilter, SkillRun, SkillRunLog,
};

use crate::connection::Connection;
use crate::store::AuditStore;
use crate::{list, logs};

#[async_trait]
impl<C: Connection> BulkStorage for AuditStore<C> {
    async fn append_logs(&self, events: &[SkillRunLog]) -> Result<()> {
        logs::append_many(&self.writing().await?, events).await
    }

    fn stream_runs(
        &self,
        filter: &RunFilter,
        order: Order,
        page: Page,
    ) -> BoxStream<'_, Result<SkillRun>> {
        let filter = filter.clone();
        Box::pin(stream! {
            let mut rest = page;
            let mut after = None;
            loop {
                let stretch = match self.reading().await {
                    Ok(db) => list::stretch(&db, &filter, order, after, rest).await,
                    Err(err) => Err(err),
                };
                let stretch = match stretch {
                    Ok(stretch) => stretch,
                    Err(err) => return yield Err(err),
                };
                let read = stretch.records.len() as u64;
                rest = Page::from(rest.limit.map(|limit| limit.saturating_sub(read)));
                for record in stretch.records {
                    yield record;
                }
                if stretch.end.is_none() || rest.limit == Some(0) {
                    return;
                }
                after = stretch.end;
            }
        })
    }

    fn stream_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        order: Order,
    ) -> BoxStream<'_, Result<SkillRunLog>> {
        let run_id = run_id.to_owned();
        let filter = filter.clone();
        Box::pin(stream! {
            let mut after = None;
            loop {
                let stretch = match self.reading().await {
                    Ok(db) => logs::stretch(&db, &run_id, &filter, order, after).await,
                    Err(err) => Err(err),
                };
                let stretch = match stretch {
                    Ok(stretch) => stretch,
                    Err(err) => return yield Err(err),
                };
                for record in stretch.records {
                    yield record;
                }
                if stretch.end.is_none() {
                    return;
                }
                after = stretch.end;
            }
        })
    }
}
