use std::time::{Duration, Instant};

use runtrail_audit::{Error, Result};
use tokio::time::sleep;

use crate::error;

/// How often a store retries a statement after a transient failure: a lost connection, a restarting
/// server, a deadlock or a lock.
///
/// The first delay is 10 to 20 ms. It doubles with each retry, up to 100 to 200 ms. The delays are
/// random within these bounds, to keep callers from retrying all at once.
///
/// Two kinds of failure are never retried:
///
/// - a timeout of the caller or of the server, since it already limits the wait;
/// - any failure on a [`Borrowed`](crate::Borrowed) connection, since only the owner of a
///   transaction can repeat it.
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
    /// 12 tries. No retry follows a failure more than 5 s after the first try. If every try fails
    /// immediately, all of them take one to two seconds.
    fn default() -> Self {
        Self {
            tries: 12,
            within: Duration::from_secs(5),
        }
    }
}

impl Retry {
    /// Disables retries. A store with its own pool still waits for the lock of a SQLite file.
    pub fn never() -> Self {
        Self::default().tries(1)
    }

    /// Sets the maximum number of tries of one statement, including the first; 12 by default, at
    /// least 1.
    pub fn tries(mut self, tries: usize) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// Sets how long after the first try of a statement a failure is still retried; 5 s by default.
    ///
    /// The delay before the last retry and the retry itself may exceed this time. To limit a whole
    /// call, set [`Timing::call_timeout`](crate::Timing::call_timeout).
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Returns the first result that isn't retryable, or the last one.
    ///
    /// If statements fail early on a lock of the whole database, they are retried until
    /// `lock_timeout` has passed.
    pub(crate) async fn run<T, F>(
        &self,
        lock_timeout: Option<Duration>,
        mut attempt: impl FnMut() -> F + Send,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        /// Before jitter, which adds up to 100 %.
        const MIN_DELAY: Duration = Duration::from_millis(10);
        const MAX_DELAY: Duration = Duration::from_millis(100);

        let started = Instant::now();
        let mut delay = MIN_DELAY;
        let mut tries = 1;
        loop {
            let result = attempt().await;
            match (&result, lock_timeout) {
                (Err(Error::Busy { .. }), Some(timeout)) if started.elapsed() < timeout => {}
                (Err(err), _)
                    if is_retryable(err)
                        && tries < self.tries
                        && started.elapsed() < self.within =>
                {
                    tries += 1;
                }
                _ => return result,
            }
            sleep(delay + delay.mul_f32(fastrand::f32())).await;
            delay = MAX_DELAY.min(delay * 2);
        }
    }
}

/// Returns whether a retry is worthwhile. A timeout of the caller or of the server is final; a
/// timeout of the wait for a free connection isn't.
fn is_retryable(err: &Error) -> bool {
    let is_timeout = matches!(err, Error::Timeout { .. });
    err.is_transient() && (!is_timeout || error::is_without_connection(err))
}
