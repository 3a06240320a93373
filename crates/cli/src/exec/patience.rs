//! How long `exec` waits for a database that doesn't answer.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use runtrail::{Error, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// The total wait in one outage, over all writes and all their tries.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// The same after a signal was passed on to the program.
pub(super) const AFTER_SIGNAL: Duration = Duration::from_secs(5);

/// The timeout of one try: a lost connection may never answer, but a new one may.
const TRY: Duration = Duration::from_secs(5);

/// The timeout of a write's only try once the [`PATIENCE`] is used up.
pub(super) const IMPATIENCE: Duration = Duration::from_secs(1);

/// The pause between two such writes, so that they slow the program down by at most a tenth.
const PAUSE: Duration = Duration::from_secs(10);

/// What is left of the [`PATIENCE`]; reset once the database answers.
pub(super) struct Patience {
    left: Duration,
    /// Set once the program has ended: the time at which all waiting ends.
    end: watch::Receiver<Option<Instant>>,
    /// The time of the next try, after a wait in vain.
    next_try: Option<Instant>,
    /// Whether the database has refused a write, as opposed to not answering.
    has_refused: bool,
}

impl Patience {
    pub(super) fn new(end: watch::Receiver<Option<Instant>>) -> Self {
        Self {
            left: PATIENCE,
            end,
            next_try: None,
            has_refused: false,
        }
    }

    pub(super) fn has_refused(&self) -> bool {
        self.has_refused
    }

    /// Repeats a write while the database may come back. Soon after a wait in vain, the write fails without a try.
    ///
    /// # Errors
    ///
    /// Those of the write. A write that was dropped half way may be stored or not; either is fine.
    pub(super) async fn attempt<F>(&mut self, write: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let begun = Instant::now();
        let is_ending = self.end.borrow().is_some();
        if !is_ending && self.next_try.is_some_and(|time| begun < time) {
            return Err(unanswered());
        }
        let mut pause = Duration::from_millis(20);
        loop {
            match self.try_once(begun, write()).await {
                Ok(()) => {
                    self.left = PATIENCE;
                    self.next_try = None;
                    return Ok(());
                }
                Err(err) if err.is_transient() && Instant::now() + pause < self.give_up(begun) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(err) => {
                    self.left = self.left.saturating_sub(begun.elapsed());
                    let is_used_up = self.left <= IMPATIENCE;
                    self.next_try = is_used_up.then(|| Instant::now() + PAUSE);
                    return Err(err);
                }
            }
        }
    }

    async fn try_once(
        &mut self,
        begun: Instant,
        write: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let mut write = pin!(write);
        let end_of_try = Instant::now() + TRY;
        loop {
            let deadline = end_of_try.min(self.give_up(begun));
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
                Ok(()) = self.end.changed() => {}
            }
        }
    }

    /// When to give up a write that began at `begun`.
    fn give_up(&self, begun: Instant) -> Instant {
        let give_up = begun + self.left;
        let end = self.end.borrow().unwrap_or(give_up);
        give_up.min(end).max(begun + IMPATIENCE)
    }
}

/// The error of a database that didn't answer in time.
pub(super) fn unanswered() -> Error {
    Error::Timeout {
        source: "gave up waiting".into(),
    }
}
