use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::RunStatus;

/// Which runs a list or a count takes; the default takes every run that is not a dry run.
///
/// All parts that are set must hold.
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
    /// Only runs with this status.
    ///
    /// [`RunStatus::DRY_RUN`] finds nothing unless [`include_dry_run`](Self::include_dry_run) is set too.
    pub status: Option<RunStatus>,
    /// Only runs of this skill.
    pub skill_id: Option<String>,
    /// Only runs for this caller.
    pub caller_id: Option<String>,
    /// Only runs from this channel.
    pub channel_id: Option<String>,
    /// Only runs without a parent.
    ///
    /// This leaves out a run whose parent was purged;
    /// [`RunQuery::without_stored_parent`](crate::RunQuery::without_stored_parent) takes it.
    pub top_level_only: bool,
    /// Only runs that started at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only runs that started at this time or earlier.
    pub until: Option<DateTime<Utc>>,
    /// Takes dry runs as well, which are hidden otherwise.
    pub include_dry_run: bool,
}

impl RunFilter {
    /// Every run that is not a dry run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only runs with this status.
    pub fn status(mut self, status: impl Into<RunStatus>) -> Self {
        self.status = Some(status.into());
        self
    }

    /// Only runs of this skill.
    pub fn skill(mut self, skill_id: impl Into<String>) -> Self {
        self.skill_id = Some(skill_id.into());
        self
    }

    /// Only runs for this caller.
    pub fn caller(mut self, caller_id: impl Into<String>) -> Self {
        self.caller_id = Some(caller_id.into());
        self
    }

    /// Only runs from this channel.
    pub fn channel(mut self, channel_id: impl Into<String>) -> Self {
        self.channel_id = Some(channel_id.into());
        self
    }

    /// Only runs without a parent.
    pub fn top_level_only(mut self) -> Self {
        self.top_level_only = true;
        self
    }

    /// Only runs that started at this time or later.
    pub fn since(mut self, time: DateTime<Utc>) -> Self {
        self.since = Some(time);
        self
    }

    /// Only runs that started at this time or earlier.
    pub fn until(mut self, time: DateTime<Utc>) -> Self {
        self.until = Some(time);
        self
    }

    /// Takes dry runs as well.
    pub fn include_dry_run(mut self) -> Self {
        self.include_dry_run = true;
        self
    }
}
