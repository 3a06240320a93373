use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{LabelFilter, Result, RunFilter, RunStatus};

/// Selects runs for a page or a stream; the default matches every run that is not a dry run.
///
/// A run must match every part that is set. Every [`RunFilter`] can be converted to a query.
///
/// ```
/// use runtrail_audit::{RunQuery, RunStatus};
///
/// let slow_failures = RunQuery::new()
///     .statuses([RunStatus::ERROR, RunStatus::TIMEOUT])
///     .except_callers(["ci"])
///     .runtime_seconds(60.0..);
/// assert_eq!(slow_failures.callers.except, ["ci"]);
/// ```
///
/// An empty list matches nothing. A list of permitted tenants can therefore be passed on as it is:
/// if it is empty, no run is shown.
///
/// ```
/// # use runtrail_audit::RunQuery;
/// let no_callers = RunQuery::new().callers(Vec::<String>::new());
/// assert_ne!(no_callers, RunQuery::new());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[must_use]
pub struct RunQuery {
    /// The statuses to match. [`RunStatus::DRY_RUN`] matches nothing unless
    /// [`include_dry_run`](Self::include_dry_run) is set too.
    pub statuses: Choice<RunStatus>,
    /// The skills to match.
    pub skills: Choice<String>,
    /// The callers to match.
    pub callers: Choice<String>,
    /// The channels to match.
    pub channels: Choice<String>,
    /// The parent to match.
    pub parent: Parent,
    /// Bounds of the start time.
    pub started: Bounds<DateTime<Utc>>,
    /// Bounds of the finish time. If one is set, running runs don't match.
    pub finished: Bounds<DateTime<Utc>>,
    /// Bounds of the duration in seconds.
    pub runtime_seconds: Bounds<f64>,
    /// Bounds of the sum of input, output and thinking tokens.
    pub total_tokens: Bounds<u64>,
    /// The prefix of the run ids.
    pub id_prefix: String,
    /// Matches only running runs that started before this time, whose last event, if any, is older
    /// too, and that have no living [owner](crate::Owner).
    pub stale_since: Option<DateTime<Utc>>,
    /// Conditions on the labels of the runs; each must hold.
    pub labels: Vec<LabelFilter>,
    /// Matches dry runs as well.
    pub include_dry_run: bool,
}

/// A list of accepted values and a list of excluded values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Choice<T> {
    /// The accepted values: `None` accepts every value, an empty list accepts none.
    pub only: Option<Vec<T>>,
    /// The excluded values.
    pub except: Vec<T>,
}

/// An inclusive lower and an inclusive upper bound; each is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[must_use]
pub struct Bounds<T> {
    /// The lower bound.
    pub from: Option<T>,
    /// The upper bound.
    pub to: Option<T>,
}

impl<T> Bounds<T> {
    /// Creates bounds, both inclusive; `None` leaves that side open.
    pub fn new(from: Option<T>, to: Option<T>) -> Self {
        Self { from, to }
    }

    /// Applies a function to each bound that is set.
    pub fn map<U>(self, value: impl Fn(T) -> U) -> Bounds<U> {
        Bounds {
            from: self.from.map(&value),
            to: self.to.map(value),
        }
    }

    /// Applies a fallible function to each bound that is set.
    ///
    /// # Errors
    ///
    /// The first error of the function.
    pub fn try_map<U>(self, value: impl Fn(T) -> Result<U>) -> Result<Bounds<U>> {
        Ok(Bounds {
            from: self.from.map(&value).transpose()?,
            to: self.to.map(value).transpose()?,
        })
    }
}

/// Selects runs by their parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Parent {
    /// Every run, with or without a parent.
    #[default]
    Any,
    /// Runs without a parent, that is, top-level runs.
    None,
    /// Runs without a parent, and runs whose parent isn't stored: it was purged, or the child was
    /// imported without it.
    ///
    /// A run that is its own parent doesn't match, since its parent is stored.
    NoneStored,
    /// The children of the run with this id.
    Run(String),
}

impl RunQuery {
    /// Creates a query that matches every run that is not a dry run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Restricts the query to runs with one of these statuses; an empty list matches no run.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = impl Into<RunStatus>>) -> Self {
        self.statuses.only = Some(all(statuses));
        self
    }

    /// Excludes runs with one of these statuses.
    pub fn except_statuses(
        mut self,
        statuses: impl IntoIterator<Item = impl Into<RunStatus>>,
    ) -> Self {
        self.statuses.except = all(statuses);
        self
    }

    /// Restricts the query to runs of these skills; an empty list matches no run.
    pub fn skills(mut self, skills: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.skills.only = Some(all(skills));
        self
    }

    /// Excludes runs of these skills.
    pub fn except_skills(mut self, skills: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.skills.except = all(skills);
        self
    }

    /// Restricts the query to runs of these callers; an empty list matches no run.
    pub fn callers(mut self, callers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.callers.only = Some(all(callers));
        self
    }

    /// Excludes runs of these callers.
    pub fn except_callers(mut self, callers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.callers.except = all(callers);
        self
    }

    /// Restricts the query to runs from these channels; an empty list matches no run.
    pub fn channels(mut self, channels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.channels.only = Some(all(channels));
        self
    }

    /// Excludes runs from these channels.
    pub fn except_channels(
        mut self,
        channels: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.channels.except = all(channels);
        self
    }

    /// Restricts the query to runs without a parent.
    ///
    /// [`without_stored_parent`](Self::without_stored_parent) also matches runs whose parent was
    /// purged.
    pub fn top_level_only(mut self) -> Self {
        self.parent = Parent::None;
        self
    }

    /// Restricts the query to runs without a parent and runs whose parent isn't stored.
    pub fn without_stored_parent(mut self) -> Self {
        self.parent = Parent::NoneStored;
        self
    }

    /// Restricts the query to the direct children of this run.
    pub fn children_of(mut self, run_id: impl Into<String>) -> Self {
        self.parent = Parent::Run(run_id.into());
        self
    }

    /// Restricts the query to runs that started within these bounds.
    pub fn started(mut self, times: impl Into<Bounds<DateTime<Utc>>>) -> Self {
        self.started = times.into();
        self
    }

    /// Restricts the query to runs that finished within these bounds.
    pub fn finished(mut self, times: impl Into<Bounds<DateTime<Utc>>>) -> Self {
        self.finished = times.into();
        self
    }

    /// Restricts the query to runs with a duration within these bounds, in seconds.
    pub fn runtime_seconds(mut self, seconds: impl Into<Bounds<f64>>) -> Self {
        self.runtime_seconds = seconds.into();
        self
    }

    /// Restricts the query to runs whose total number of tokens is within these bounds.
    pub fn total_tokens(mut self, tokens: impl Into<Bounds<u64>>) -> Self {
        self.total_tokens = tokens.into();
        self
    }

    /// Restricts the query to runs whose ids begin with this prefix.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.id_prefix = prefix.into();
        self
    }

    /// Restricts the query to running runs that have been [stale](Self::stale_since) since this
    /// time.
    pub fn stale_since(mut self, time: DateTime<Utc>) -> Self {
        self.stale_since = Some(time);
        self
    }

    /// Restricts the query to runs with this label.
    pub fn label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.label_in(key, [value])
    }

    /// Restricts the query to runs whose label with this key has one of these values; an empty list
    /// matches no run.
    pub fn label_in(
        self,
        key: impl Into<String>,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.add_label_filter(LabelFilter::AnyOf {
            key: key.into(),
            values: all(values),
        })
    }

    /// Excludes runs whose label with this key has one of these values. Runs without such a label
    /// match.
    pub fn except_label(
        self,
        key: impl Into<String>,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.add_label_filter(LabelFilter::NoneOf {
            key: key.into(),
            values: all(values),
        })
    }

    /// Restricts the query to runs that have a label with this key.
    pub fn has_label(self, key: impl Into<String>) -> Self {
        self.add_label_filter(LabelFilter::Exists { key: key.into() })
    }

    /// Adds a condition on the labels.
    pub fn add_label_filter(mut self, filter: LabelFilter) -> Self {
        self.labels.push(filter);
        self
    }

    /// Extends the query to dry runs.
    pub fn include_dry_run(mut self) -> Self {
        self.include_dry_run = true;
        self
    }
}

impl RunQuery {
    /// Sorts the lists and removes duplicates, so that queries with the same values are equal.
    pub fn sorted(mut self) -> Self {
        self.statuses.sort();
        for choice in [&mut self.skills, &mut self.callers, &mut self.channels] {
            choice.sort();
        }
        for filter in &mut self.labels {
            filter.sort();
        }
        self.labels.sort();
        self.labels.dedup();
        self
    }
}

impl<T: Ord> Choice<T> {
    fn sort(&mut self) {
        for values in self.only.iter_mut().chain([&mut self.except]) {
            values.sort();
            values.dedup();
        }
    }
}

impl From<&RunFilter> for RunQuery {
    fn from(filter: &RunFilter) -> Self {
        let RunFilter {
            status,
            skill_id,
            caller_id,
            channel_id,
            top_level_only,
            since,
            until,
            include_dry_run,
        } = filter;
        Self {
            statuses: status.clone().into(),
            skills: skill_id.clone().into(),
            callers: caller_id.clone().into(),
            channels: channel_id.clone().into(),
            parent: match top_level_only {
                true => Parent::None,
                false => Parent::Any,
            },
            started: Bounds {
                from: *since,
                to: *until,
            },
            include_dry_run: *include_dry_run,
            ..Self::default()
        }
    }
}

fn all<T>(values: impl IntoIterator<Item = impl Into<T>>) -> Vec<T> {
    values.into_iter().map(Into::into).collect()
}

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Self {
            only: None,
            except: Vec::new(),
        }
    }
}

impl<T> From<Option<T>> for Choice<T> {
    /// Accepts only this value; `None` accepts every value.
    fn from(only: Option<T>) -> Self {
        Self {
            only: only.map(|only| vec![only]),
            except: Vec::new(),
        }
    }
}

impl<T> Default for Bounds<T> {
    fn default() -> Self {
        Self {
            from: None,
            to: None,
        }
    }
}

impl<T> From<RangeInclusive<T>> for Bounds<T> {
    fn from(range: RangeInclusive<T>) -> Self {
        let (from, to) = range.into_inner();
        Self {
            from: Some(from),
            to: Some(to),
        }
    }
}

impl<T> From<RangeFrom<T>> for Bounds<T> {
    fn from(range: RangeFrom<T>) -> Self {
        Self {
            from: Some(range.start),
            to: None,
        }
    }
}

impl<T> From<RangeToInclusive<T>> for Bounds<T> {
    fn from(range: RangeToInclusive<T>) -> Self {
        Self {
            from: None,
            to: Some(range.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::{CursorPage, ListOrder, PageRequest};

    fn assert_survives_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
    }

    #[test]
    fn filters_queries_and_pages_survive_json() {
        let filter = RunFilter::new().caller("alice").since(DateTime::UNIX_EPOCH);
        assert_survives_json(&filter);
        let query = RunQuery::from(&filter)
            .except_statuses(["ok"])
            .total_tokens(5..)
            .children_of("run-1")
            .label("env", "prod")
            .has_label("team");
        assert_survives_json(&query);
        assert_survives_json(&ListOrder::OldestFirst);
        let request = PageRequest::first(7).at(crate::Cursor::from("text"));
        assert_survives_json(&request);
        let mut page = CursorPage::new(vec!["run-1".to_owned()]);
        page.next = request.cursor;
        assert_survives_json(&page);
    }

    #[test]
    fn an_empty_list_is_not_an_absent_one_in_json_either() {
        let no_callers = RunQuery::new().callers(Vec::<String>::new());
        assert_ne!(no_callers, RunQuery::new());
        assert_survives_json(&no_callers);
        let given = r#"{"callers": {"only": []}}"#;
        assert_eq!(serde_json::from_str::<RunQuery>(given).unwrap(), no_callers);
    }

    #[test]
    fn parts_of_a_query_may_be_missing_from_its_json() {
        assert_eq!(
            serde_json::from_str::<RunQuery>("{}").unwrap(),
            RunQuery::new()
        );
    }
}
