use std::time::{Duration, Instant};

use runtrail_audit::{Error, Result};
use tokio::time::sleep;

use crate::error;

/// How often a store tries a statement again that has failed for a reason which passes by itself: a connection that
/// was lost, a server that is restarting, a deadlock, a lock.
///
/// It waits in between: 10 to 20 ms at first, then twice as long each time, up to 100 to 200 ms; how long within these
/// bounds is random, so that many callers don't come back all at once.
///
/// Two things are never tried again: a call that has run into a timeout of its caller or of the server, since that says
/// how long to wait; and a statement on a [`Borrowed`](crate::Borrowed) connection, since a transaction is its owner's to
/// repeat, from the start.
///
/// ```
/// # use std::time::Duration;
/// use runtrail_db::Retry;
///
/// let patient = Retry::default().tries(50).within(Duration::from_secs(60));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Retry {
    tries: usize,
    within: Duration,
}

impl Default for Retry {
    /// 12 tries, of which none begins more than 5 s after the first, but for the pause before it. Where each fails at
    /// once, they take a second or two.
    fn default() -> Self {
        Self {
            tries: 12,
            within: Duration::from_secs(5),
        }
    }
}

impl Retry {
    /// Never retry.
    pub fn never() -> Self {
        Self::default().tries(1)
    }

    /// The most tries of one statement, the first included; 12 by default, at least 1.
    pub fn tries(mut self, tries: usize) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// How long after the first try of a statement a failure is still followed by another; 5 s by default.
    ///
    /// The pause before that try and the try itself come on top. The limit of a whole call is
    /// [`Timing::call_timeout`](crate::Timing::call_timeout).
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// The first answer that isn't worth another try, or the last one.
    ///
    /// If statements fail early on a lock of the whole database, they are repeated until `lock_timeout` has passed.
    pub(crate) async fn run<T, F>(
        &self,
        lock_timeout: Option<Duration>,
        mut attempt: impl FnMut() -> F + Send,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        /// Before jitter, which adds up to as much again.
        const MIN_DELAY: Duration = Duration::from_millis(10);
        const MAX_DELAY: Duration = Duration::from_millis(100);

        let begun = Instant::now();
        let mut delay = MIN_DELAY;
        let mut tries = 1;
        loop {
            let answer = attempt().await;
            match (&answer, lock_timeout) {
                (Err(Error::Busy { .. }), Some(timeout)) if begun.elapsed() < timeout => {}
                (Err(err), _)
                    if is_retryable(err) && tries < self.tries && begun.elapsed() < self.within =>
                {
                    tries += 1;
                }
                _ => return answer,
            }
            sleep(delay + delay.mul_f32(fastrand::f32())).await;
            delay = MAX_DELAY.min(delay * 2);
        }
    }
}

/// A timeout of the caller or of the server is final; the lack of a free connection is worth another try.
fn is_retryable(err: &Error) -> bool {
    let is_timeout = matches!(err, Error::Timeout { .. });
    err.is_transient() && (!is_timeout || error::is_without_connection(err))
}
