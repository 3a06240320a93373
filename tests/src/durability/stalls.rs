use std::cell::Cell;
use std::time::{Duration, Instant};

use sea_orm::DatabaseConnection;
use tokio::time::sleep;

/// Runs a test on a runtime with a single thread. Returns the longest time that the test occupied
/// the thread without a break, and the duration of the test.
fn longest_stall(test: impl AsyncFnOnce() + Send + 'static) -> (Duration, Duration) {
    let on_own_thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let begun = Instant::now();
        let (last, longest) = (Cell::new(begun), Cell::new(Duration::ZERO));
        let note = || {
            longest.set(longest.get().max(last.get().elapsed()));
            last.set(Instant::now());
        };
        runtime.block_on(async {
            let measure = async {
                loop {
                    note();
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = measure => {}
                () = test() => {}
            }
        });
        // The test may have ended without ever giving up the thread.
        note();
        (longest.get(), begun.elapsed())
    });
    on_own_thread.join().unwrap()
}

/// Fails if a test occupied its thread for half of the time.
pub(super) fn assert_yields(test: impl AsyncFnOnce() + Send + 'static) {
    let (stall, duration) = longest_stall(test);
    assert!(
        stall < duration / 2,
        "the test took {duration:?} and occupied the thread for {stall:?}"
    );
}

/// Runs a test that waits for a lock of this connection, and closes the connection after a while.
/// Fails if the test didn't wait, or if it occupied its thread for half of that time.
pub(super) async fn assert_yields_until_unlocked(
    lock: DatabaseConnection,
    test: impl AsyncFnOnce() + Send + 'static,
) {
    const LOCKED_FOR: Duration = Duration::from_millis(500);

    let waiting = std::thread::spawn(|| longest_stall(test));
    sleep(LOCKED_FOR).await;
    assert!(!waiting.is_finished());
    lock.close().await.unwrap();
    let (stall, _) = waiting.join().unwrap();
    assert!(
        stall < LOCKED_FOR / 2,
        "the thread was occupied for {stall:?}"
    );
}
