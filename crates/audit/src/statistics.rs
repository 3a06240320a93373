use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Buckets, Durations, Error, Result, RunQuery, Storage, rules};

/// Statistics of runs and of calls. A call is an event with a [`Usage`](crate::Usage).
#[async_trait]
pub trait Statistics: Storage {
    /// Returns statistics of the runs that a query selects, one row for each group, bucket and
    /// tier that has any, sorted by these. A missing value is first, texts are sorted by bytes.
    ///
    /// It reads each of these runs, and needs some ten bytes of memory for the duration of each.
    ///
    /// ```
    /// use runtrail_audit::{Dimension, Result, RunQuery, Statistics, StatisticsQuery};
    ///
    /// async fn print_failures(store: &impl Statistics) -> Result<()> {
    ///     let query = StatisticsQuery::of(RunQuery::new()).group_by([Dimension::Skill]);
    ///     for row in store.run_statistics(&query).await? {
    ///         let skill = row.group[0].as_deref().unwrap_or_default();
    ///         println!("{skill}: {} of {} failed", row.values.failed, row.values.runs);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](Error::InvalidInput) for an invalid query, or one that groups by provider,
    /// model or input tiers.
    async fn run_statistics(
        &self,
        query: &StatisticsQuery,
    ) -> Result<Vec<StatisticsRow<RunStatistics>>>;

    /// Like [`run_statistics`](Self::run_statistics), for the calls of these runs.
    ///
    /// The query selects runs: a call counts if its run is selected, whenever the call was made.
    /// Only buckets are about the time of the calls.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](Error::InvalidInput) for an invalid query.
    async fn call_statistics(
        &self,
        query: &StatisticsQuery,
    ) -> Result<Vec<StatisticsRow<CallStatistics>>>;
}

const _: fn(&dyn Statistics) = |_| {};

/// Selects runs for [`Statistics`], and divides them into rows. The default is all runs but dry
/// runs, in one row.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct StatisticsQuery {
    /// The runs.
    pub runs: RunQuery,
    /// Restricts the runs to the newest ones of each skill, at most this many; `None` for all.
    pub last_per_skill: Option<u64>,
    /// What to group by; at most [`MAX_DIMENSIONS`](Self::MAX_DIMENSIONS).
    pub group_by: Vec<Dimension>,
    /// Divides runs by their start, and calls by their time.
    pub buckets: Option<Buckets>,
    /// Divides calls by their number of input tokens: each number begins a tier. At most
    /// [`MAX_TIERS`](Self::MAX_TIERS).
    pub input_tiers: Vec<u64>,
}

/// What statistics are grouped by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Dimension {
    /// The skill of the run.
    Skill,
    /// The caller of the run.
    Caller,
    /// The channel of the run.
    Channel,
    /// The status of the run.
    Status,
    /// The value of the run's label with this key.
    Label(String),
    /// The provider of the model; only for calls.
    Provider,
    /// The model; only for calls.
    Model,
}

/// The names of the dimensions other than labels.
const NAMES: [(&str, Dimension); 6] = [
    ("skill", Dimension::Skill),
    ("caller", Dimension::Caller),
    ("channel", Dimension::Channel),
    ("status", Dimension::Status),
    ("provider", Dimension::Provider),
    ("model", Dimension::Model),
];

/// What the names of labels begin with.
const LABEL: &str = "label:";

impl Dimension {
    /// Returns the dimension with this name: `skill`, `caller`, `channel`, `status`, `provider`,
    /// `model`, or `label:KEY` for any key.
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(key) = name.strip_prefix(LABEL) {
            return Some(Self::Label(key.to_owned()));
        }
        let named = NAMES.into_iter().find(|(other, _)| *other == name);
        named.map(|(_, dimension)| dimension)
    }
}

/// The name that [`from_name`](Dimension::from_name) accepts.
impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Label(key) = self {
            return write!(f, "{LABEL}{key}");
        }
        let named = NAMES.iter().find(|(_, dimension)| dimension == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

impl StatisticsQuery {
    /// The maximum number of dimensions.
    pub const MAX_DIMENSIONS: usize = 16;

    /// The maximum number of tiers.
    pub const MAX_TIERS: usize = 100;

    /// Creates a query about these runs, which returns at most one row.
    pub fn of(runs: RunQuery) -> Self {
        Self {
            runs,
            ..Self::default()
        }
    }

    /// Restricts the query to the newest of the selected runs of each skill, at most this many.
    pub fn last_per_skill(mut self, runs: u64) -> Self {
        self.last_per_skill = Some(runs);
        self
    }

    /// Returns a row for each combination of values of these dimensions.
    pub fn group_by(mut self, dimensions: impl IntoIterator<Item = Dimension>) -> Self {
        self.group_by = dimensions.into_iter().collect();
        self
    }

    /// Returns a row for each of these periods. Runs and calls before the first of them have a row
    /// without a bucket.
    pub fn buckets(mut self, buckets: Buckets) -> Self {
        self.buckets = Some(buckets);
        self
    }

    /// Returns a row for each tier of input tokens. A tier begins at each of these numbers. Calls
    /// with fewer tokens, or an unknown number of them, have a row without a tier.
    pub fn input_tiers(mut self, tokens: impl IntoIterator<Item = u64>) -> Self {
        self.input_tiers = tokens.into_iter().collect();
        self
    }

    /// Checks the query, apart from its filter of runs.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](Error::InvalidInput) for too many dimensions or tiers, for a tier above
    /// [`i64::MAX`], and for the key of a label that isn't valid.
    pub fn check(&self) -> Result<()> {
        if self.group_by.len() > Self::MAX_DIMENSIONS {
            return Err(Error::invalid("group_by", "has more than 16 dimensions"));
        }
        for dimension in &self.group_by {
            if let Dimension::Label(key) = dimension {
                rules::label_key(key)?;
            }
        }
        if self.input_tiers.len() > Self::MAX_TIERS {
            return Err(Error::invalid("input_tiers", "are more than 100"));
        }
        let tiers = self.input_tiers.iter();
        tiers
            .copied()
            .try_for_each(|tier| rules::count("input_tiers", tier).map(drop))
    }

    /// Like [`check`](Self::check), for statistics of runs.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check); also [`InvalidInput`](Error::InvalidInput) for a provider,
    /// a model or input tiers.
    pub fn check_for_runs(&self) -> Result<()> {
        let is_of_calls =
            |dimension: &Dimension| matches!(dimension, Dimension::Provider | Dimension::Model);
        if self.group_by.iter().any(is_of_calls) {
            return Err(Error::invalid(
                "group_by",
                "has a dimension of calls, not of runs",
            ));
        }
        if !self.input_tiers.is_empty() {
            return Err(Error::invalid("input_tiers", "divide calls, not runs"));
        }
        self.check()
    }
}

/// Statistics of one group, in one bucket and one tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatisticsRow<T> {
    /// The value of each dimension, in the order of
    /// [`group_by`](StatisticsQuery::group_by); `None` if the run has no such label, or the call
    /// no provider or model.
    pub group: Vec<Option<String>>,
    /// When the bucket begins; `None` before the first bucket, and without buckets.
    #[serde(serialize_with = "crate::rfc3339::serialize_option")]
    pub bucket: Option<DateTime<Utc>>,
    /// The number of input tokens at which the tier begins; `None` below the first tier, for an
    /// unknown number of tokens, and without tiers.
    pub input_tier: Option<u64>,
    /// The statistics.
    pub values: T,
}

impl<T> StatisticsRow<T> {
    /// Creates a row without a bucket or a tier.
    pub fn new(group: Vec<Option<String>>, values: T) -> Self {
        Self {
            group,
            bucket: None,
            input_tier: None,
            values,
        }
    }
}

/// Removes all groups but the `count` ones with the largest sum of a measure over their rows.
/// Keeps the order of the rows; of groups with equal sums, the first one counts as larger.
///
/// ```
/// use runtrail_audit::{Result, Statistics, StatisticsQuery, retain_top};
///
/// async fn most_expensive(store: &impl Statistics, query: &StatisticsQuery) -> Result<()> {
///     let mut rows = store.call_statistics(query).await?;
///     retain_top(&mut rows, 10, |calls| calls.cost_micros);
///     Ok(())
/// }
/// ```
pub fn retain_top<T>(rows: &mut Vec<StatisticsRow<T>>, count: usize, measure: impl Fn(&T) -> u64) {
    let mut groups: Vec<(&[Option<String>], u64)> = Vec::new();
    for row in &*rows {
        let value = measure(&row.values);
        match groups.last_mut() {
            Some((group, sum)) if *group == row.group => *sum = sum.saturating_add(value),
            _ => groups.push((&row.group, value)),
        }
    }
    // Stable, so that the first of equal groups stays first.
    groups.sort_by_key(|(_, sum)| Reverse(*sum));
    groups.truncate(count);
    let top: HashSet<_> = groups
        .into_iter()
        .map(|(group, _)| group.to_vec())
        .collect();
    rows.retain(|row| top.contains(&row.group));
}

/// Statistics of runs.
///
/// Sums are exact, up to [`u64::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunStatistics {
    /// The number of runs.
    pub runs: u64,
    /// How many of them have finished.
    pub finished: u64,
    /// How many of them have [failed](crate::RunStatus::FAILED).
    pub failed: u64,
    /// Their tool calls.
    pub tool_calls: u64,
    /// How long the finished ones took, each rounded to whole microseconds.
    pub runtime: Durations,
}

/// Statistics of calls.
///
/// A number that a call doesn't report counts as 0. Sums are exact, up to [`u64::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallStatistics {
    /// The number of events with a usage.
    pub calls: u64,
    /// All input tokens, including those read from and written to a cache.
    pub input_tokens: u64,
    /// The input tokens that were read from a cache.
    pub cache_read_tokens: u64,
    /// The input tokens that were written to a cache.
    pub cache_write_tokens: u64,
    /// All output tokens, including those spent on reasoning.
    pub output_tokens: u64,
    /// The output tokens that were spent on reasoning.
    pub thinking_tokens: u64,
    /// The reported cost in millionths of a US dollar.
    pub cost_micros: u64,
    /// The number of calls without a reported cost.
    pub calls_without_cost: u64,
    /// How long the calls with a known duration took.
    pub duration: Durations,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dimension_has_a_name() {
        let names = NAMES.map(|(name, _)| name);
        for name in names.into_iter().chain(["label:env", "label:"]) {
            let dimension = Dimension::from_name(name).unwrap();
            assert_eq!(dimension.to_string(), name);
        }
        for unknown in ["", "Skill", "label", "skills"] {
            assert_eq!(Dimension::from_name(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_top_groups_stay_in_order_with_all_their_rows() {
        let row =
            |group: &str, number: u64| StatisticsRow::new(vec![Some(group.to_owned())], number);
        let rows = [
            row("a", 1),
            row("a", 2),
            row("b", 9),
            row("c", 3),
            row("d", 0),
        ];
        let top = |count| {
            let mut rows = rows.to_vec();
            retain_top(&mut rows, count, |number| *number);
            rows
        };
        assert_eq!(top(1), [row("b", 9)]);
        assert_eq!(top(2), [row("a", 1), row("a", 2), row("b", 9)]);
        assert_eq!(top(9), rows);
        assert_eq!(top(0), []);
    }
}
