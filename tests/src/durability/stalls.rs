use std::cell::Cell;
use std::time::{Duration, Instant};

/// Runs a test on a runtime with a single thread. Returns the longest time that the test occupied
/// the thread without a break, and the duration of the test.
pub(super) fn longest_stall(test: impl AsyncFnOnce() + Send + 'static) -> (Duration, Duration) {
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
