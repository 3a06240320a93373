//! Keeps queries that run on their caller's thread from occupying it.

use std::cell::Cell;
use std::time::Duration;

/// How long queries run on a thread before other tasks get a turn.
const MAX_TURN: Duration = Duration::from_micros(500);

thread_local! {
    /// How long queries have run on this thread since other tasks had a turn.
    static USED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Lets other tasks of this thread run, if queries have used it for a while.
pub(super) async fn take_turns() {
    if USED.get() > MAX_TURN {
        USED.set(Duration::ZERO);
        tokio::task::yield_now().await;
    }
}

/// Adds the time that a query took on this thread.
pub(super) fn add(time: Duration) {
    USED.set(USED.get() + time);
}
