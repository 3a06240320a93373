//! What the streams have in common.

use std::time::Duration;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use runtrail_audit::{Error, Result, Watched};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use crate::store::AuditStore;

/// How long a stream waits while the database is unavailable.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// An open stream.
pub(super) trait Follow: Send + 'static {
    type Item: Send;

    /// Returns the next item; `None` at the end. After an error, the next call continues.
    fn next(&mut self) -> impl Future<Output = Result<Option<Watched<Self::Item>>>> + Send;
}

enum State<S> {
    Unopened,
    Open(S),
    Ended,
}

/// Opens a stream when it is polled. Waits out transient errors, continues after a damaged row, and
/// ends after any other error.
pub(super) fn stream<S, F>(
    open: impl Fn() -> F + Send + 'static,
) -> BoxStream<'static, Result<Watched<S::Item>>>
where
    S: Follow,
    F: Future<Output = Result<S>> + Send + 'static,
{
    let items = stream::unfold((open, State::Unopened), |(open, state)| async move {
        let mut state = state;
        loop {
            let result = match &mut state {
                State::Ended => return None,
                State::Unopened => match open().await {
                    Ok(opened) => {
                        state = State::Open(opened);
                        continue;
                    }
                    Err(err) => Err(err),
                },
                State::Open(stream) => stream.next().await,
            };
            return match result {
                Ok(Some(item)) => Some((Ok(item), (open, state))),
                Ok(None) => None,
                Err(err) if err.is_transient() => {
                    sleep(RETRY_INTERVAL).await;
                    continue;
                }
                Err(err @ Error::Corrupt { .. }) => Some((Err(err), (open, state))),
                Err(err) => Some((Err(err), (open, State::Ended))),
            };
        }
    });
    items.fuse().boxed()
}

/// Waits until something has arrived, at most until this time.
pub(super) async fn wait(
    store: &AuditStore,
    stream: &Notify,
    until: Option<Instant>,
) -> Result<()> {
    store.hub().ensure_running(store)?;
    match until {
        // At that time, the caller looks again.
        Some(until) => drop(timeout_at(until, stream.notified()).await),
        None => stream.notified().await,
    }
    Ok(())
}
