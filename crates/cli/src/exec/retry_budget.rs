//! Bounds how long `exec` waits for a database that doesn't answer.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use runtrail::{Error, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// The total wait in one outage, over all writes and all their retries.
pub(super) const OUTAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// The total wait after a signal was forwarded to the program.
pub(super) const TIMEOUT_AFTER_SIGNAL: Duration = Duration::from_secs(5);

/// The timeout of one try. A lost connection may never answer, but the next try uses a new one.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout of a write that is tried once, after [`OUTAGE_TIMEOUT`] is used up.
pub(super) const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The interval between two writes with [`SHORT_TIMEOUT`]. They slow the program down by at most a
/// tenth.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The rest of [`OUTAGE_TIMEOUT`] for the retries of this outage. It is reset once the database
/// answers.
pub(super) struct RetryBudget {
    left: Duration,
    /// The deadline of all waits. It is set once the program has ended.
    final_deadline: watch::Receiver<Option<Instant>>,
    /// The time of the next try, if the budget is used up.
    next_try: Option<Instant>,
    /// Whether the database has refused a write, as opposed to not answering.
    has_refused: bool,
}

impl RetryBudget {
    pub(super) fn new(final_deadline: watch::Receiver<Option<Instant>>) -> Self {
        Self {
            left: OUTAGE_TIMEOUT,
            final_deadline,
            next_try: None,
            has_refused: false,
        }
    }

    pub(super) fn has_refused(&self) -> bool {
        self.has_refused
    }

    /// Retries a write while its failure is transient and the budget lasts. Once the budget is used
    /// up, writes fail without a try until [`RETRY_INTERVAL`] has passed.
    ///
    /// # Errors
    ///
    /// Those of the write. A write that timed out may or may not be stored; a retry handles both.
    pub(super) async fn attempt<F>(&mut self, write: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let started = Instant::now();
        let is_ending = self.final_deadline.borrow().is_some();
        if !is_ending && self.next_try.is_some_and(|time| started < time) {
            return Err(unanswered());
        }
        let mut pause = Duration::from_millis(20);
        loop {
            match self.try_once(started, write()).await {
                Ok(()) => {
                    self.left = OUTAGE_TIMEOUT;
                    self.next_try = None;
                    return Ok(());
                }
                Err(err)
                    if err.is_transient() && Instant::now() + pause < self.deadline(started) =>
                {
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(err) => {
                    self.left = self.left.saturating_sub(started.elapsed());
                    let is_exhausted = self.left <= SHORT_TIMEOUT;
                    self.next_try = is_exhausted.then(|| Instant::now() + RETRY_INTERVAL);
                    return Err(err);
                }
            }
        }
    }

    async fn try_once(
        &mut self,
        started: Instant,
        write: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let mut write = pin!(write);
        let try_deadline = Instant::now() + TRY_TIMEOUT;
        loop {
            let deadline = try_deadline.min(self.deadline(started));
            tokio::select! {
                outcome = &mut write => {
                    let is_refused = !matches!(
                        outcome,
                        Ok(()) | Err(Error::Timeout { .. } | Error::Busy { .. })
                    );
                    self.has_refused |= is_refused;
                    return outcome;
                }
                () = sleep_until(deadline) => return Err(unanswered()),
                Ok(()) = self.final_deadline.changed() => {}
            }
        }
    }

    /// Returns the deadline of a write that began at `started`.
    fn deadline(&self, started: Instant) -> Instant {
        let budget_deadline = started + self.left;
        let final_deadline = self.final_deadline.borrow().unwrap_or(budget_deadline);
        budget_deadline
            .min(final_deadline)
            .max(started + SHORT_TIMEOUT)
    }
}

/// Returns the error for a database that didn't answer in time.
pub(super) fn unanswered() -> Error {
    Error::Timeout {
        source: "gave up waiting".into(),
    }
}
