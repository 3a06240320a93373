//! Statistics by hand: the same SQL as Runtrail's, and SQL that sorts the durations itself.

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use runtrail_audit::{
    BucketWidth, Buckets, Dimension, Durations, RunQuery, Statistics, StatisticsQuery,
};
use runtrail_store::AuditStore;
use rusqlite::{Connection, params};

use crate::postgres_by_hand::Postgres;

/// A period at the end of a history.
pub(crate) struct Period {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Period {
    pub(crate) fn before(to: DateTime<Utc>, days: i64) -> Self {
        Self {
            from: to - TimeDelta::days(days),
            to,
        }
    }

    fn micros(&self) -> [i64; 2] {
        [self.from, self.to].map(|time| time.timestamp_micros())
    }
}

/// Runs by skill and day.
pub(crate) async fn runs(store: &AuditStore, period: &Period) -> Result<()> {
    let Period { from, to } = *period;
    let query = StatisticsQuery::of(RunQuery::new().started(from..=to))
        .group_by([Dimension::Skill])
        .buckets(Buckets::every(BucketWidth::Days(1), &Utc, from, to)?);
    store.run_statistics(&query).await?;
    Ok(())
}

/// Calls by provider and model.
pub(crate) async fn calls(store: &AuditStore, period: &Period) -> Result<()> {
    let query = StatisticsQuery::of(RunQuery::new().started(period.from..=period.to))
        .group_by([Dimension::Provider, Dimension::Model]);
    store.call_statistics(&query).await?;
    Ok(())
}

/// Gives three of ten events a usage.
pub(crate) const ADD_USAGE: &str = "UPDATE skill_run_logs SET provider = 'anthropic', \
     model = 'model-' || sequence, duration_micros = created_at % 977 * 10000, \
     input_tokens = created_at % 99991, cache_read_tokens = created_at % 997, \
     output_tokens = created_at % 4999, cost_micros = created_at % 49999 \
     WHERE sequence IN (1, 4, 7)";

const RUNS: &str = "SELECT skill_id, started_at - started_at % 86400000000, COUNT(*), \
     COUNT(finished_at), COUNT(CASE WHEN status IN ('error', 'timeout') THEN 1 END), \
     CAST(SUM(tool_calls) AS BIGINT), LISTED(CASE WHEN finished_at IS NOT NULL THEN MICROS END) \
     FROM skill_runs WHERE started_at >= ?1 AND started_at <= ?2 AND status <> 'dry_run' \
     GROUP BY 1, 2";

const CALLS: &str = "SELECT provider, model, COUNT(*), COUNT(cost_micros), \
     CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(cache_read_tokens) AS BIGINT), \
     CAST(SUM(cache_write_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT), \
     CAST(SUM(thinking_tokens) AS BIGINT), CAST(SUM(cost_micros) AS BIGINT), \
     LISTED(duration_micros) FROM skill_runs JOIN skill_run_logs ON run_id = id \
     WHERE started_at >= ?1 AND started_at <= ?2 AND status <> 'dry_run' \
     AND (provider IS NOT NULL OR model IS NOT NULL OR input_tokens IS NOT NULL \
     OR cache_read_tokens IS NOT NULL OR cache_write_tokens IS NOT NULL \
     OR output_tokens IS NOT NULL OR thinking_tokens IS NOT NULL OR cost_micros IS NOT NULL) \
     GROUP BY 1, 2";

/// Runs by skill and day, with the percentiles in SQL.
const SORTED_RUNS: &str = "WITH sample AS (SELECT skill_id, \
     started_at - started_at % 86400000000 AS day, finished_at, status, tool_calls, \
     CASE WHEN finished_at IS NOT NULL THEN MICROS END AS duration FROM skill_runs \
     WHERE started_at >= ?1 AND started_at <= ?2 AND status <> 'dry_run'), \
     ranked AS (SELECT *, \
     ROW_NUMBER() OVER (PARTITION BY skill_id, day ORDER BY duration) AS rank, \
     COUNT(duration) OVER (PARTITION BY skill_id, day) AS ranks FROM sample) \
     SELECT skill_id, day, COUNT(*), COUNT(finished_at), \
     COUNT(CASE WHEN status IN ('error', 'timeout') THEN 1 END), CAST(SUM(tool_calls) AS BIGINT), \
     CAST(SUM(duration) AS BIGINT), \
     MAX(CASE WHEN rank = (ranks * 50 + 99) / 100 THEN duration END), \
     MAX(CASE WHEN rank = (ranks * 90 + 99) / 100 THEN duration END), \
     MAX(CASE WHEN rank = (ranks * 95 + 99) / 100 THEN duration END), \
     MAX(CASE WHEN rank = (ranks * 99 + 99) / 100 THEN duration END) \
     FROM ranked GROUP BY 1, 2";

/// Which statistics to read by hand.
#[derive(Clone, Copy)]
pub(crate) enum ByHand {
    Runs,
    SortedRuns,
    Calls,
}

impl ByHand {
    fn sql(self) -> &'static str {
        match self {
            Self::Runs => RUNS,
            Self::SortedRuns => SORTED_RUNS,
            Self::Calls => CALLS,
        }
    }

    /// The position of the list of durations, if it has one.
    fn list(self) -> Option<usize> {
        match self {
            Self::Runs => Some(6),
            Self::SortedRuns => None,
            Self::Calls => Some(10),
        }
    }

    pub(crate) fn on_sqlite(self, db: &Connection, period: &Period) -> Result<()> {
        let sql = self
            .sql()
            .replace("LISTED", "GROUP_CONCAT")
            .replace("MICROS", "CAST(runtime_seconds * 1e6 + 0.5 AS INTEGER)");
        let [from, to] = period.micros();
        let mut query = db.prepare_cached(&sql)?;
        let mut rows = query.query(params![from, to])?;
        while let Some(row) = rows.next()? {
            let count: i64 = row.get(2)?;
            let list = self.list().map(|list| row.get::<_, Option<String>>(list));
            summarise(count, list.transpose()?.flatten());
        }
        Ok(())
    }

    pub(crate) async fn on_postgres(self, hand: &Postgres, period: &Period) -> Result<()> {
        let sql = self
            .sql()
            .replace('?', "$")
            .replace(
                "LISTED(duration_micros)",
                "STRING_AGG(duration_micros::text, ',')",
            )
            .replace(
                "LISTED(CASE WHEN finished_at IS NOT NULL THEN MICROS END)",
                "STRING_AGG(CASE WHEN finished_at IS NOT NULL THEN MICROS::text END, ',')",
            )
            .replace("MICROS", "floor(runtime_seconds * 1e6 + 0.5)::bigint");
        let [from, to] = period.micros();
        for row in hand.client.query(&sql, &[&from, &to]).await? {
            let count: i64 = row.get(2);
            summarise(count, self.list().and_then(|list| row.get(list)));
        }
        Ok(())
    }
}

fn summarise(count: i64, list: Option<String>) {
    let list = list.unwrap_or_default();
    let micros = list.split(',').filter_map(|micros| micros.parse().ok());
    std::hint::black_box((count, Durations::of(micros.collect())));
}
