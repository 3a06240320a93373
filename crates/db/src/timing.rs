use std::time::Duration;

use crate::Retry;

/// How long a call may take, and how it is retried.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    /// How each of its statements is retried after a transient failure.
    pub retry: Retry,
    /// How long the call may take, including retries and the wait for a connection; `None` is
    /// unlimited.
    pub call_timeout: Option<Duration>,
}

impl AsRef<Timing> for Timing {
    fn as_ref(&self) -> &Timing {
        self
    }
}
