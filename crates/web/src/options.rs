use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture, Shared};
use runtrail_audit::{Clock, SystemClock};

use crate::Access;

/// How a [`router`](crate::router) answers.
#[derive(Clone)]
#[non_exhaustive]
#[must_use]
pub struct WebOptions {
    pub(crate) access: Arc<dyn Access>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shared<BoxFuture<'static, ()>>,
}

impl WebOptions {
    /// Creates options with an [`Access`], which decides who may see what.
    /// [`FullAccess`](crate::FullAccess) shows everything to everyone.
    pub fn new(access: impl Access + 'static) -> Self {
        Self {
            access: Arc::new(access),
            clock: Arc::new(SystemClock),
            shutdown: future::pending().boxed().shared(),
        }
    }

    /// Replaces the clock, from which ages such as "3m ago" are computed.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Ends all live streams once this future completes.
    ///
    /// A server that shuts down gracefully waits for its responses, and a live stream has no end of
    /// its own. Pass the same signal as to axum's `with_graceful_shutdown`.
    pub fn shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = signal.boxed().shared();
        self
    }
}

impl fmt::Debug for WebOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebOptions")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
