use std::sync::Arc;
use std::time::Duration;

use runtrail_audit::{Clock, SystemClock};

use crate::guard::Token;

const MAX_BODY_BYTES: usize = 16 << 20;
const MAX_BUFFERED_BYTES: usize = 64 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Limits and guards of a [`router`](crate::router), and of [other routes](crate::guarded) on the
/// same address.
///
/// Requests must be addressed to this machine, unless more is allowed: `Host` has to be
/// `localhost`, an address in 127.0.0.0/8 or `[::1]`. Otherwise a web page could reach the receiver
/// by DNS rebinding. For the same reason, browsers' requests from other origins are refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouterOptions {
    pub(crate) max_body_bytes: usize,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) token: Option<Token>,
    pub(crate) hosts: Vec<String>,
    pub(crate) any_host: bool,
    pub(crate) origins: Vec<String>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: MAX_BODY_BYTES,
            max_buffered_bytes: MAX_BUFFERED_BYTES,
            body_timeout: BODY_TIMEOUT,
            token: None,
            hosts: Vec::new(),
            any_host: false,
            origins: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl RouterOptions {
    /// Limits the size of a body, both compressed and decompressed; 16 MiB by default.
    ///
    /// The router responds to a larger one with 413, and the sender drops it. Spans with the texts
    /// of conversations make batches of several megabytes.
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// Limits the size of all bodies that are received or stored at the same time; 64 MiB by
    /// default, and at least the limit of one body.
    ///
    /// Beyond it, the router responds with 503, so the sender retries. Decoded spans can take
    /// several times the memory of their body.
    #[must_use]
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.max_buffered_bytes = bytes;
        self
    }

    /// Limits how long a sender may take for a body; 30 seconds by default.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// Requires the header `Authorization: Bearer {token}`, or HTTP Basic authentication with the
    /// token as the password and any user name.
    ///
    /// No request has an empty token, so an empty one refuses them all.
    #[must_use]
    pub fn bearer_token(mut self, token: impl AsRef<str>) -> Self {
        self.token = Some(Token::new(token.as_ref()));
        self
    }

    /// Allows another name or address in `Host`, with any port, such as `host.docker.internal`.
    #[must_use]
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Allows any `Host`. It has no effect without a [`bearer_token`](Self::bearer_token).
    #[must_use]
    pub fn allow_any_host(mut self) -> Self {
        self.any_host = true;
        self
    }

    /// Lets web pages of an origin, such as `https://app.example.com`, send telemetry.
    #[must_use]
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Replaces the clock, which gives the time of a span or log without one.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}
