use async_trait::async_trait;
use runtrail_audit::Result;
use runtrail_telemetry::{LogRecord, Span};

/// Where decoded telemetry goes.
///
/// What is passed is durable once the future returns `Ok`. Senders repeat a request whose answer
/// was lost, so a span or log may come twice: a span has the same trace and span id then, a log the
/// same [`id`](LogRecord::id). If the sender disconnects, the future is dropped before it is ready.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Stores spans; at least one.
    ///
    /// # Errors
    ///
    /// After any error, the sender is asked to repeat the request.
    async fn spans(&self, spans: Vec<Span>) -> Result<()>;

    /// Stores logs; at least one.
    ///
    /// # Errors
    ///
    /// After any error, the sender is asked to repeat the request.
    async fn logs(&self, logs: Vec<LogRecord>) -> Result<()>;

    /// Checks that the store answers, for `/readyz`.
    ///
    /// # Errors
    ///
    /// An error of the store.
    async fn ready(&self) -> Result<()>;
}
