use async_trait::async_trait;
use runtrail_audit::Result;
use runtrail_telemetry::{LogRecord, Span};

/// Where decoded telemetry goes.
///
/// Implementations must make the items durable before a future returns `Ok`. They must handle
/// repeated items idempotently: if a response is lost, the sender retries. A repeated span has the
/// same trace and span id, a repeated log record the same [`id`](LogRecord::id).
///
/// The future is dropped if the sender disconnects.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Stores spans; at least one.
    ///
    /// # Errors
    ///
    /// After any error, the sender is asked to retry.
    async fn spans(&self, spans: Vec<Span>) -> Result<()>;

    /// Stores log records; at least one.
    ///
    /// # Errors
    ///
    /// After any error, the sender is asked to retry.
    async fn logs(&self, logs: Vec<LogRecord>) -> Result<()>;

    /// Checks that the store answers, for `/readyz`.
    ///
    /// # Errors
    ///
    /// An error of the store.
    async fn ready(&self) -> Result<()>;
}
