use serde::{Deserialize, Serialize};

use crate::RunStatus;

/// What a finished run reports to [`Storage::finish_run`](crate::Storage::finish_run).
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
        }
    }

    /// What it produced.
    #[must_use]
    pub fn output(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.error = error.into();
        self
    }

    /// How many tools it called.
    #[must_use]
    pub fn tool_calls(mut self, tool_calls: u64) -> Self {
        self.tool_calls = tool_calls;
        self
    }

    /// How long it took, in seconds.
    #[must_use]
    pub fn runtime_seconds(mut self, runtime_seconds: f64) -> Self {
        self.runtime_seconds = runtime_seconds;
        self
    }

    /// Tokens it read.
    #[must_use]
    pub fn input_tokens(mut self, input_tokens: u64) -> Self {
        self.input_tokens = input_tokens;
        self
    }

    /// Tokens it wrote.
    #[must_use]
    pub fn output_tokens(mut self, output_tokens: u64) -> Self {
        self.output_tokens = output_tokens;
        self
    }

    /// Tokens it spent on thinking.
    #[must_use]
    pub fn thinking_tokens(mut self, thinking_tokens: u64) -> Self {
        self.thinking_tokens = thinking_tokens;
        self
    }
}
