use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The status of a run: one of the words below, or any word that the host chooses.
///
/// Queries treat only some of the words below specially.
///
/// ```
/// use runtrail_audit::RunStatus;
///
/// assert_eq!(RunStatus::from("error"), RunStatus::ERROR);
/// assert_eq!(RunStatus::from("cancelled").as_str(), "cancelled");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunStatus(Cow<'static, str>);

impl RunStatus {
    /// In progress: the default status of a new run. A run can't be finished with it.
    pub const RUNNING: Self = Self(Cow::Borrowed("running"));
    /// A rehearsal: left out of lists and counts unless dry runs are requested.
    pub const DRY_RUN: Self = Self(Cow::Borrowed("dry_run"));
    /// Succeeded. A convention among hosts; queries don't treat it specially.
    pub const OK: Self = Self(Cow::Borrowed("ok"));
    /// Failed. [`last_run_by_skills`](crate::Storage::last_run_by_skills) ignores such a run unless
    /// failed runs are requested.
    pub const ERROR: Self = Self(Cow::Borrowed("error"));
    /// Ran out of time. [`last_run_by_skills`](crate::Storage::last_run_by_skills) ignores such a
    /// run unless failed runs are requested.
    pub const TIMEOUT: Self = Self(Cow::Borrowed("timeout"));

    /// Ended by [`sweep_interrupted`](crate::Ownership::sweep_interrupted), because its owner or
    /// that of an ancestor stopped sending heartbeats. The owner of the run can still finish it
    /// with another status.
    pub const INTERRUPTED: Self = Self(Cow::Borrowed("interrupted"));

    /// The statuses of runs that failed.
    pub const FAILED: [Self; 2] = [Self::ERROR, Self::TIMEOUT];

    /// Returns the word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RunStatus {
    /// [`RunStatus::RUNNING`].
    fn default() -> Self {
        Self::RUNNING
    }
}

impl From<&str> for RunStatus {
    fn from(word: &str) -> Self {
        Self(Cow::Owned(word.to_owned()))
    }
}

impl From<String> for RunStatus {
    fn from(word: String) -> Self {
        Self(Cow::Owned(word))
    }
}

impl AsRef<str> for RunStatus {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
