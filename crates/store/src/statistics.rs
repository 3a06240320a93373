use async_trait::async_trait;
use runtrail_audit::{
    CallStatistics, Result, RunStatistics, Statistics, StatisticsQuery, StatisticsRow,
};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::read::statistics;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> Statistics for AuditStore<C> {
    async fn run_statistics(
        &self,
        query: &StatisticsQuery,
    ) -> Result<Vec<StatisticsRow<RunStatistics>>> {
        let db = self.reading(debug_span!("run_statistics")).await?;
        statistics::of_runs(&db, query).await
    }

    async fn call_statistics(
        &self,
        query: &StatisticsQuery,
    ) -> Result<Vec<StatisticsRow<CallStatistics>>> {
        let db = self.reading(debug_span!("call_statistics")).await?;
        statistics::of_calls(&db, query).await
    }
}
