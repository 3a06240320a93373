use std::time::Duration;

use crate::Retry;

/// How long a call goes on trying.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    /// How often each of its statements is tried again after a failure that passes.
    pub retry: Retry,
    /// How long the call may take, with all its tries and the wait for a connection; none is as long as it needs.
    pub call_timeout: Option<Duration>,
}

impl AsRef<Timing> for Timing {
    fn as_ref(&self) -> &Timing {
        self
    }
}
