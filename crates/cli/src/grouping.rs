//! What statistics are grouped by, and over which periods: the arguments, the lines of JSON and the
//! trends that `stats` and `cost` share.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use clap::Args;
use runtrail::{
    AuditStore, BucketWidth, Buckets, Dimension, ListOrder, PageRequest, PagedStorage, RunQuery,
    StatisticsRow, rfc3339, rules,
};
use serde::Serialize;

use crate::calendar::{self, Zone};
use crate::failure::{Failure, Result};
use crate::output::{self, printable};

const HEADING: &str = "Periods";

#[derive(Args)]
pub(crate) struct PeriodArguments {
    /// Show how each group changed over time: 15m, 1h, 1d, 1w, 1month, 1y, or a multiple.
    #[arg(long, value_name = "PERIOD", value_parser = calendar::width, help_heading = HEADING)]
    every: Option<BucketWidth>,
    /// The time zone of the periods: a name such as Europe/Berlin, local, or utc.
    #[arg(long, value_name = "ZONE", default_value = "utc", help_heading = HEADING)]
    time_zone: Zone,
}

impl PeriodArguments {
    /// Returns the periods from `--since` to `--until`; by default, from the start of the oldest run
    /// until now. Returns `None` without `--every`.
    pub(crate) async fn buckets(
        &self,
        store: &AuditStore,
        runs: &RunQuery,
        now: DateTime<Utc>,
    ) -> Result<Option<Buckets>> {
        let Some(width) = self.every else {
            return Ok(None);
        };
        let to = runs.started.to.unwrap_or(now);
        let oldest = store
            .page_run_summaries(runs, ListOrder::OldestFirst, &PageRequest::first(1))
            .await?;
        let oldest = oldest.items.first().map(|run| run.started_at);
        let from = runs.started.from.or(oldest).unwrap_or(to);
        let buckets = self.time_zone.buckets(width, from, to.max(from));
        buckets
            .map(Some)
            .map_err(|err| Failure::usage(format!("--every can't be used here: {err}")))
    }
}

/// A group in JSON, in one period.
#[derive(Serialize)]
pub(crate) struct Line<'a, T> {
    /// The value of each dimension.
    group: BTreeMap<String, Option<&'a str>>,
    /// When the period began; null without `--every`.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    bucket: Option<DateTime<Utc>>,
    #[serde(flatten)]
    values: &'a T,
}

impl<'a, T> Line<'a, T> {
    pub(crate) fn of(dimensions: &[Dimension], row: &'a StatisticsRow<T>) -> Self {
        let values = row.group.iter().map(Option::as_deref);
        Self {
            group: dimensions
                .iter()
                .map(Dimension::to_string)
                .zip(values)
                .collect(),
            bucket: row.bucket,
            values: &row.values,
        }
    }
}

pub(crate) fn dimension(text: &str) -> Result<Dimension, String> {
    let dimension = Dimension::from_name(text)
        .ok_or("expected skill, caller, channel, status, provider, model or label:KEY")?;
    if let Dimension::Label(key) = &dimension {
        rules::label_key(key).map_err(|err| err.to_string())?;
    }
    Ok(dimension)
}

/// Draws a number of each group over time.
pub(crate) fn trends<T>(
    buckets: &Buckets,
    rows: &[StatisticsRow<T>],
    size: impl Fn(&T) -> u64,
) -> HashMap<Vec<Option<String>>, String> {
    let of_group = rows.chunk_by(|row, next| row.group == next.group);
    let trend = |rows: &[StatisticsRow<T>]| {
        let sizes = rows.iter().map(|row| (row.bucket, size(&row.values)));
        let sizes: HashMap<_, _> = sizes.collect();
        let size = |start: &DateTime<Utc>| sizes.get(&Some(*start)).copied().unwrap_or_default();
        let numbers: Vec<u64> = buckets.starts().iter().map(size).collect();
        Some((rows.first()?.group.clone(), output::trend(&numbers)))
    };
    of_group.filter_map(trend).collect()
}

/// Returns the values of a group as one text.
pub(crate) fn title<T>(row: &StatisticsRow<T>) -> String {
    if row.group.is_empty() {
        return "all".to_owned();
    }
    let value = |value: &Option<String>| match value {
        Some(value) => printable(value),
        None => "–".to_owned(),
    };
    row.group.iter().map(value).collect::<Vec<_>>().join(", ")
}
