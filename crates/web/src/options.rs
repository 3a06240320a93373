use std::fmt;
use std::sync::Arc;

use runtrail_audit::{Clock, SystemClock};

use crate::Access;

/// How a [`router`](crate::router) answers.
#[derive(Clone)]
#[non_exhaustive]
#[must_use]
pub struct WebOptions {
    pub(crate) access: Arc<dyn Access>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl WebOptions {
    /// Lets this decide who may see what. [`FullAccess`](crate::FullAccess) shows everything to
    /// everyone.
    pub fn new(access: impl Access + 'static) -> Self {
        Self {
            access: Arc::new(access),
            clock: Arc::new(SystemClock),
        }
    }

    /// Replaces the clock, from which ages such as "3m ago" are computed.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
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
