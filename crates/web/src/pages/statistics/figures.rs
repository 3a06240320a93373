use std::cmp::Reverse;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use runtrail_audit::{CallStatistics, RunStatistics, StatisticsRow};

use crate::period::Period;

/// Everything that the page shows.
pub(super) struct Figures {
    pub(super) total: RunStatistics,
    /// One for each bar of the charts, in their order.
    pub(super) moments: Vec<Moment>,
    /// The largest first.
    pub(super) groups: Vec<GroupFigures>,
    /// The largest first.
    pub(super) models: Vec<ModelFigures>,
}

/// What happened during one bar of the charts.
pub(super) struct Moment {
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    pub(super) runs: RunStatistics,
    pub(super) calls: CallStatistics,
}

pub(super) struct GroupFigures {
    pub(super) name: String,
    pub(super) runs: RunStatistics,
    pub(super) calls: CallStatistics,
}

pub(super) struct ModelFigures {
    pub(super) provider: Option<String>,
    pub(super) model: Option<String>,
    pub(super) calls: CallStatistics,
}

impl Figures {
    /// Adds up a number of the calls of all bars.
    pub(super) fn calls(&self, number: fn(&CallStatistics) -> u64) -> u64 {
        let numbers = self.moments.iter().map(|moment| number(&moment.calls));
        numbers.fold(0, u64::saturating_add)
    }
}

impl Moment {
    pub(super) fn all(
        period: &Period,
        runs: &[StatisticsRow<RunStatistics>],
        calls: &[StatisticsRow<CallStatistics>],
    ) -> Vec<Self> {
        let runs = by_start(runs);
        let calls = by_start(calls);
        let moment = |(from, to)| Self {
            from,
            to,
            runs: runs.get(&from).copied().unwrap_or_default(),
            calls: calls.get(&from).copied().unwrap_or_default(),
        };
        period.bars().map(moment).collect()
    }
}

/// A call isn't earlier than its run, so a row without a bucket comes from clocks that differ.
fn by_start<T: Copy>(rows: &[StatisticsRow<T>]) -> HashMap<DateTime<Utc>, T> {
    let starts = rows
        .iter()
        .filter_map(|row| Some((row.bucket?, row.values)));
    starts.collect()
}

pub(super) fn groups(
    runs: Vec<StatisticsRow<RunStatistics>>,
    calls: &[StatisticsRow<CallStatistics>],
) -> Vec<GroupFigures> {
    let calls: HashMap<_, _> = calls.iter().map(|row| (&row.group, row.values)).collect();
    let of_group = |row: StatisticsRow<RunStatistics>| GroupFigures {
        calls: calls.get(&row.group).copied().unwrap_or_default(),
        name: row.group.into_iter().next().flatten().unwrap_or_default(),
        runs: row.values,
    };
    let mut groups: Vec<_> = runs.into_iter().map(of_group).collect();
    groups.sort_by_key(|group| Reverse(group.runs.runs));
    groups
}

pub(super) fn models(rows: Vec<StatisticsRow<CallStatistics>>) -> Vec<ModelFigures> {
    let of_model = |row: StatisticsRow<CallStatistics>| {
        let mut group = row.group.into_iter();
        ModelFigures {
            provider: group.next().flatten(),
            model: group.next().flatten(),
            calls: row.values,
        }
    };
    let mut models: Vec<_> = rows.into_iter().map(of_model).collect();
    models.sort_by_key(|model| Reverse(model.calls.calls));
    models
}
