use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{RunStatus, rfc3339};

/// The outcome of a run, for [`Storage::finish_run`](crate::Storage::finish_run).
///
/// ```
/// use runtrail_audit::{RunStats, RunStatus};
///
/// let stats = RunStats::new(RunStatus::OK).output("42").runtime_seconds(1.5);
/// assert_eq!(stats.tool_calls, 0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunStats {
    /// The final status; anything but [`RunStatus::RUNNING`].
    pub status: RunStatus,
    /// The result as text; [`Limits`](crate::Limits) bounds its size. A NUL character is replaced
    /// by U+FFFD.
    pub output: String,
    /// The error message; [`Limits`](crate::Limits) bounds its size. A NUL character is replaced by
    /// U+FFFD.
    pub error: String,
    /// The number of tool calls; like every count, at most [`i64::MAX`].
    pub tool_calls: u64,
    /// The duration in seconds; finite and not negative. For 0, the default, the store records the
    /// time from `started_at` to `finished_at`.
    pub runtime_seconds: f64,
    /// The number of input tokens.
    pub input_tokens: u64,
    /// The number of output tokens.
    pub output_tokens: u64,
    /// The number of tokens spent on reasoning.
    pub thinking_tokens: u64,
    /// When the run finished, in whole microseconds; for `None`, the store uses its clock.
    ///
    /// A finish that is repeated with another time is the same finish: the first time is kept.
    #[serde(
        default,
        serialize_with = "rfc3339::serialize_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub finished_at: Option<DateTime<Utc>>,
}

impl RunStats {
    /// Creates an outcome with this status, empty texts and zero counts.
    pub fn new(status: impl Into<RunStatus>) -> Self {
        Self {
            status: status.into(),
            output: String::new(),
            error: String::new(),
            tool_calls: 0,
            runtime_seconds: 0.0,
            input_tokens: 0,
            output_tokens: 0,
            thinking_tokens: 0,
            finished_at: None,
        }
    }

    /// Sets the time at which the run finished.
    #[must_use]
    pub fn finished_at(mut self, time: DateTime<Utc>) -> Self {
        self.finished_at = Some(time);
        self
    }

    /// Sets the result.
    #[must_use]
    pub fn output(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }

    /// Sets the error message.
    #[must_use]
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.error = error.into();
        self
    }

    /// Sets the number of tool calls.
    #[must_use]
    pub fn tool_calls(mut self, tool_calls: u64) -> Self {
        self.tool_calls = tool_calls;
        self
    }

    /// Sets the duration in seconds.
    #[must_use]
    pub fn runtime_seconds(mut self, runtime_seconds: f64) -> Self {
        self.runtime_seconds = runtime_seconds;
        self
    }

    /// Sets the number of input tokens.
    #[must_use]
    pub fn input_tokens(mut self, input_tokens: u64) -> Self {
        self.input_tokens = input_tokens;
        self
    }

    /// Sets the number of output tokens.
    #[must_use]
    pub fn output_tokens(mut self, output_tokens: u64) -> Self {
        self.output_tokens = output_tokens;
        self
    }

    /// Sets the number of tokens spent on reasoning.
    #[must_use]
    pub fn thinking_tokens(mut self, thinking_tokens: u64) -> Self {
        self.thinking_tokens = thinking_tokens;
        self
    }
}
