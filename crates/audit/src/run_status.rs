use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How a run stands or how it ended: an open set of words.
///
/// The words below have a meaning to the queries; any other word a host uses round-trips unchanged.
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
    /// Under way; the status of a new run, and no outcome.
    pub const RUNNING: Self = Self(Cow::Borrowed("running"));
    /// A rehearsal: hidden from lists and counts unless they ask for it.
    pub const DRY_RUN: Self = Self(Cow::Borrowed("dry_run"));
    /// Ended well. A convention among hosts, without a meaning to the queries.
    pub const OK: Self = Self(Cow::Borrowed("ok"));
    /// Failed; not counted as a last run unless failed ones are asked for.
    pub const ERROR: Self = Self(Cow::Borrowed("error"));
    /// Ran out of time; not counted as a last run unless failed ones are asked for.
    pub const TIMEOUT: Self = Self(Cow::Borrowed("timeout"));

    /// The statuses of runs that failed.
    pub const FAILED: [Self; 2] = [Self::ERROR, Self::TIMEOUT];

    /// The word itself.
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
