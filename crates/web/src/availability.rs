//! Whether the database answers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use runtrail_audit::History;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::visitor::Site;

/// How often a live stream asks, and how long an answer holds.
const INTERVAL: Duration = Duration::from_secs(4);

/// What the last query found out.
#[derive(Debug, Default)]
pub(crate) struct Availability {
    last: Mutex<Option<(Instant, bool)>>,
}

impl Availability {
    /// Returns whether the database answers. All who ask within an interval share a query.
    async fn check(&self, history: &dyn History) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, is_available)) = *last
            && at.elapsed() < INTERVAL
        {
            return is_available;
        }
        let is_available = history.find_run_ids("", "", 1).await.is_ok();
        *last = Some((Instant::now(), is_available));
        is_available
    }
}

/// Streams whether the database answers, each time that changes. At first, it is assumed to answer.
///
/// A stream of [`Watch`](runtrail_audit::Watch) only waits while it doesn't.
pub(crate) fn changes(site: Arc<Site>) -> BoxStream<'static, bool> {
    let changes = stream::unfold((site, true), async |(site, was_available)| {
        loop {
            let is_available = site.availability.check(&*site.history).await;
            if is_available != was_available {
                return Some((is_available, (site, is_available)));
            }
            sleep(INTERVAL).await;
        }
    });
    changes.boxed()
}
