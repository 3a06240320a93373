use serde::{Deserialize, Serialize};

use crate::RunStatus;

/// What a finished run reports to [`Storage::finish_run`](crate::Storage::finish_run).
///
/// ```
/// use runtrail_audit::{RunStats, RunStatus};
///
/// let stats = RunStats {
///     output: "42".into(),
///     runtime_seconds: 1.5,
///     ..RunStats::new(RunStatus::OK)
/// };
/// assert_eq!(stats.tool_calls, 0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStats {
    /// How the run ended; anything but [`RunStatus::RUNNING`].
    pub status: RunStatus,
    /// What it produced: at most [`Limits`](crate::Limits); a NUL character becomes U+FFFD.
    pub output: String,
    /// What went wrong: at most [`Limits`](crate::Limits); a NUL character becomes U+FFFD.
    pub error: String,
    /// How many tools it called; like all counts at most [`i64::MAX`].
    pub tool_calls: u64,
    /// The runtime in seconds; finite and not negative. For 0, the default, the store records the time from
    /// `started_at` to `finished_at`.
    pub runtime_seconds: f64,
    /// Tokens it read.
    pub input_tokens: u64,
    /// Tokens it wrote.
    pub output_tokens: u64,
    /// Tokens it spent on thinking.
    pub thinking_tokens: u64,
}

impl RunStats {
    /// An outcome of which only the status is known: texts empty, counts zero.
    pub fn new(status: RunStatus) -> Self {
        Self {
            status,
            output: String::new(),
            error: String::new(),
            tool_calls: 0,
            runtime_seconds: 0.0,
            input_tokens: 0,
            output_tokens: 0,
            thinking_tokens: 0,
        }
    }
}
