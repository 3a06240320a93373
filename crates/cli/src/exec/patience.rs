//! How long a database is waited for that doesn't answer.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use runtrail_store::audit::{Error, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// All the waiting of one outage, over all writes and all their tries.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// The same at the end of a program that a signal has ended.
pub(super) const AFTER_SIGNAL: Duration = Duration::from_secs(5);

/// The end of one try: a lost connection may never answer, where a new one would.
const TRY: Duration = Duration::from_secs(5);

/// The only try of a write once the patience is used up.
pub(super) const IMPATIENCE: Duration = Duration::from_secs(1);

/// The pause between two such writes, so that they slow the program down by no more than a tenth.
const PAUSE: Duration = Duration::from_secs(10);

/// What is left of the [`PATIENCE`]; all of it again once the database answers.
pub(super) struct Patience {
    left: Duration,
    /// When the waiting ends in any case, once the program has ended.
    end: watch::Receiver<Option<Instant>>,
    /// When the database is asked next, after it was waited for in vain.
    next_try: Option<Instant>,
    /// Whether the database itself has refused a write, rather than not answered.
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

    /// Repeats a write while the database may come back; soon after it was waited for in vain, it isn't even tried.
    ///
    /// # Errors
    ///
    /// Those of the write. What is dropped half way is stored or not; either will do.
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

    /// When a write that was begun then is given up.
    fn give_up(&self, begun: Instant) -> Instant {
        let give_up = begun + self.left;
        let end = self.end.borrow().unwrap_or(give_up);
        give_up.min(end).max(begun + IMPATIENCE)
    }
}

/// The database took longer than it was given.
pub(super) fn unanswered() -> Error {
    Error::Timeout {
        source: "gave up waiting".into(),
    }
}
