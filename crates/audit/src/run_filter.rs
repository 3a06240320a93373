use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::RunStatus;

/// Selects runs for a list or a count; the default matches every run that is not a dry run.
///
/// A run must match every part that is set. [`RunQuery`](crate::RunQuery) can express more.
///
/// ```
/// use runtrail_audit::{RunFilter, RunStatus};
///
/// let filter = RunFilter::new().skill("summarise").status(RunStatus::ERROR).top_level_only();
/// assert_eq!(filter.skill_id.as_deref(), Some("summarise"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[must_use]
pub struct RunFilter {
    /// Matches only runs with this status.
    ///
    /// [`RunStatus::DRY_RUN`] matches nothing unless [`include_dry_run`](Self::include_dry_run) is
    /// set too.
    pub status: Option<RunStatus>,
    /// Matches only runs of this skill.
    pub skill_id: Option<String>,
    /// Matches only runs of this caller.
    pub caller_id: Option<String>,
    /// Matches only runs from this channel.
    pub channel_id: Option<String>,
    /// Matches only runs without a parent.
    ///
    /// A run whose parent was purged doesn't match; to find such runs, use
    /// [`RunQuery::without_stored_parent`](crate::RunQuery::without_stored_parent).
    pub top_level_only: bool,
    /// Matches only runs that started at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Matches only runs that started at this time or earlier.
    pub until: Option<DateTime<Utc>>,
    /// Matches dry runs as well.
    pub include_dry_run: bool,
}

impl RunFilter {
    /// Creates a filter that matches every run that is not a dry run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Restricts the filter to runs with this status.
    pub fn status(mut self, status: impl Into<RunStatus>) -> Self {
        self.status = Some(status.into());
        self
    }

    /// Restricts the filter to runs of this skill.
    pub fn skill(mut self, skill_id: impl Into<String>) -> Self {
        self.skill_id = Some(skill_id.into());
        self
    }

    /// Restricts the filter to runs of this caller.
    pub fn caller(mut self, caller_id: impl Into<String>) -> Self {
        self.caller_id = Some(caller_id.into());
        self
    }

    /// Restricts the filter to runs from this channel.
    pub fn channel(mut self, channel_id: impl Into<String>) -> Self {
        self.channel_id = Some(channel_id.into());
        self
    }

    /// Restricts the filter to runs without a parent.
    pub fn top_level_only(mut self) -> Self {
        self.top_level_only = true;
        self
    }

    /// Restricts the filter to runs that started at this time or later.
    pub fn since(mut self, time: DateTime<Utc>) -> Self {
        self.since = Some(time);
        self
    }

    /// Restricts the filter to runs that started at this time or earlier.
    pub fn until(mut self, time: DateTime<Utc>) -> Self {
        self.until = Some(time);
        self
    }

    /// Extends the filter to dry runs.
    pub fn include_dry_run(mut self) -> Self {
        self.include_dry_run = true;
        self
    }
}
