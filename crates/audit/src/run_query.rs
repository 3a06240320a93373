use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Result, RunFilter, RunStatus};

/// Which runs a page takes; the default takes every run that is not a dry run.
///
/// It says more than a [`RunFilter`], and every such filter is one of these. All parts that are set must hold.
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
/// An empty list matches nothing, so a list of the tenants that somebody may see never shows all of them:
///
/// ```
/// # use runtrail_audit::RunQuery;
/// let of_nobody = RunQuery::new().callers(Vec::<String>::new());
/// assert_ne!(of_nobody, RunQuery::new());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[must_use]
pub struct RunQuery {
    /// By status. [`RunStatus::DRY_RUN`] finds nothing unless [`include_dry_run`](Self::include_dry_run) is set too.
    pub statuses: Choice<RunStatus>,
    /// By skill.
    pub skills: Choice<String>,
    /// By caller.
    pub callers: Choice<String>,
    /// By channel.
    pub channels: Choice<String>,
    /// By the run that spawned them.
    pub parent: Parent,
    /// By when they started.
    pub started: Bounds<DateTime<Utc>>,
    /// By when they finished; a running one is in no bounds.
    pub finished: Bounds<DateTime<Utc>>,
    /// By how long they took, in seconds.
    pub runtime_seconds: Bounds<f64>,
    /// By how many tokens of every kind they took together.
    pub total_tokens: Bounds<u64>,
    /// By how their ids begin.
    pub id_prefix: String,
    /// Takes dry runs as well, which are hidden otherwise.
    pub include_dry_run: bool,
}

/// Values of which one must match, and values of which none may match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Choice<T> {
    /// One of these: nothing matches an empty list, and everything matches `None`.
    pub only: Option<Vec<T>>,
    /// None of these.
    pub except: Vec<T>,
}

/// A lowest and a highest value, both still within; each may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[must_use]
pub struct Bounds<T> {
    /// The lowest.
    pub from: Option<T>,
    /// The highest.
    pub to: Option<T>,
}

impl<T> Bounds<T> {
    /// From the lowest to the highest value, both included; `None` for no bound on that side.
    pub fn new(from: Option<T>, to: Option<T>) -> Self {
        Self { from, to }
    }

    /// The same bounds of what the values are mapped to.
    pub fn map<U>(self, value: impl Fn(T) -> U) -> Bounds<U> {
        Bounds {
            from: self.from.map(&value),
            to: self.to.map(value),
        }
    }

    /// The same, unless one of the values can't be mapped.
    ///
    /// # Errors
    ///
    /// That of the mapping.
    pub fn try_map<U>(self, value: impl Fn(T) -> Result<U>) -> Result<Bounds<U>> {
        Ok(Bounds {
            from: self.from.map(&value).transpose()?,
            to: self.to.map(value).transpose()?,
        })
    }
}

/// What the parent of a run has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Parent {
    /// Anything or nothing.
    #[default]
    Any,
    /// Nothing: top-level runs.
    None,
    /// Nothing, or a run that isn't stored: it was purged, or the child was imported without it.
    ///
    /// A run that is its own parent has a stored one.
    NoneStored,
    /// The run with this id.
    Run(String),
}

impl RunQuery {
    /// Every run that is not a dry run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only runs with one of these statuses; none for an empty list.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = impl Into<RunStatus>>) -> Self {
        self.statuses.only = Some(all(statuses));
        self
    }

    /// No runs with one of these statuses.
    pub fn except_statuses(
        mut self,
        statuses: impl IntoIterator<Item = impl Into<RunStatus>>,
    ) -> Self {
        self.statuses.except = all(statuses);
        self
    }

    /// Only runs of these skills; none for an empty list.
    pub fn skills(mut self, skills: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.skills.only = Some(all(skills));
        self
    }

    /// No runs of these skills.
    pub fn except_skills(mut self, skills: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.skills.except = all(skills);
        self
    }

    /// Only runs for these callers; none for an empty list.
    pub fn callers(mut self, callers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.callers.only = Some(all(callers));
        self
    }

    /// No runs for these callers.
    pub fn except_callers(mut self, callers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.callers.except = all(callers);
        self
    }

    /// Only runs from these channels; none for an empty list.
    pub fn channels(mut self, channels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.channels.only = Some(all(channels));
        self
    }

    /// No runs from these channels.
    pub fn except_channels(
        mut self,
        channels: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.channels.except = all(channels);
        self
    }

    /// Only runs without a parent.
    ///
    /// [`without_stored_parent`](Self::without_stored_parent) also takes runs whose parent was purged.
    pub fn top_level_only(mut self) -> Self {
        self.parent = Parent::None;
        self
    }

    /// Only runs without a parent, or whose parent isn't stored.
    pub fn without_stored_parent(mut self) -> Self {
        self.parent = Parent::NoneStored;
        self
    }

    /// Only runs that this run spawned itself.
    pub fn children_of(mut self, run_id: impl Into<String>) -> Self {
        self.parent = Parent::Run(run_id.into());
        self
    }

    /// Only runs that started within these bounds.
    pub fn started(mut self, times: impl Into<Bounds<DateTime<Utc>>>) -> Self {
        self.started = times.into();
        self
    }

    /// Only runs that finished within these bounds.
    pub fn finished(mut self, times: impl Into<Bounds<DateTime<Utc>>>) -> Self {
        self.finished = times.into();
        self
    }

    /// Only runs that took so long, in seconds.
    pub fn runtime_seconds(mut self, seconds: impl Into<Bounds<f64>>) -> Self {
        self.runtime_seconds = seconds.into();
        self
    }

    /// Only runs that took so many tokens, of every kind together.
    pub fn total_tokens(mut self, tokens: impl Into<Bounds<u64>>) -> Self {
        self.total_tokens = tokens.into();
        self
    }

    /// Only runs whose ids begin like this.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.id_prefix = prefix.into();
        self
    }

    /// Takes dry runs as well.
    pub fn include_dry_run(mut self) -> Self {
        self.include_dry_run = true;
        self
    }
}

impl RunQuery {
    /// The same query with its values in order, each once: two that take the same values are then equal.
    pub fn sorted(mut self) -> Self {
        self.statuses.sort();
        for choice in [&mut self.skills, &mut self.callers, &mut self.channels] {
            choice.sort();
        }
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
    /// Only this value; everything for `None`.
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
    fn what_a_list_is_asked_for_survives_json() {
        let filter = RunFilter::new().caller("alice").since(DateTime::UNIX_EPOCH);
        assert_survives_json(&filter);
        let query = RunQuery::from(&filter)
            .except_statuses(["ok"])
            .total_tokens(5..)
            .children_of("run-1");
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
        let nobody = RunQuery::new().callers(Vec::<String>::new());
        assert_ne!(nobody, RunQuery::new());
        assert_survives_json(&nobody);
        let given = r#"{"callers": {"only": []}}"#;
        assert_eq!(serde_json::from_str::<RunQuery>(given).unwrap(), nobody);
    }

    #[test]
    fn parts_of_a_query_may_be_missing_from_its_json() {
        assert_eq!(
            serde_json::from_str::<RunQuery>("{}").unwrap(),
            RunQuery::new()
        );
    }
}
