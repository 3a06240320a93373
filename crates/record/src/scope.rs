//! Recording the result of a future.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use runtrail_audit::{RunStats, RunStatus};

use crate::RunHandle;

/// Why [`RunHandle::scope_within`] has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeError<E> {
    /// The future failed.
    Failed(E),
    /// The future took longer than the limit, and was dropped.
    Elapsed,
}

impl<E: fmt::Display> fmt::Display for ScopeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(err) => err.fmt(f),
            Self::Elapsed => f.write_str("the time limit has elapsed"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ScopeError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(err) => err.source(),
            Self::Elapsed => None,
        }
    }
}

impl RunHandle {
    /// Finishes the run with the result of a future, and returns that result. It doesn't wait until
    /// the end is written; [`Recorder::shutdown`](crate::Recorder::shutdown) does.
    ///
    /// | result | status | error message |
    /// | --- | --- | --- |
    /// | `Ok` | `ok` | |
    /// | `Err` | `error` | the error |
    /// | a panic, which continues | `error` | `panicked: ` and the panic's message |
    /// | dropped before it has a result | `cancelled` | `cancelled` |
    ///
    /// ```
    /// # use runtrail_record::RunHandle;
    /// # async fn search(run: &RunHandle) -> Result<u32, std::io::Error> { Ok(7) }
    /// # async fn example(run: RunHandle) -> Result<(), std::io::Error> {
    /// let hits = run.scope(search(&run)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn scope<T, E, F>(&self, future: F) -> Result<T, E>
    where
        E: fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let cancelled = Cancelled(Some(self));
        let result = AssertUnwindSafe(future).catch_unwind().await;
        cancelled.disarm();
        match result {
            Ok(result) => {
                self.finish_later(match &result {
                    Ok(_) => RunStats::new(RunStatus::OK),
                    Err(err) => RunStats::new(RunStatus::ERROR).error(err.to_string()),
                });
                result
            }
            Err(panic) => {
                let error = format!("panicked: {}", message(&*panic));
                self.finish_later(RunStats::new(RunStatus::ERROR).error(error));
                resume_unwind(panic)
            }
        }
    }

    /// Like [`scope`](Self::scope), but drops the future after this time. The run then ends with
    /// the status `timeout`.
    ///
    /// # Errors
    ///
    /// [`ScopeError`].
    pub async fn scope_within<T, E, F>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<T, ScopeError<E>>
    where
        E: fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        self.scope(async {
            match self.timeout(limit, future).await {
                Ok(result) => result.map_err(ScopeError::Failed),
                Err(_) => {
                    let error = format!("took longer than {limit:?}");
                    self.finish_later(RunStats::new(RunStatus::TIMEOUT).error(error));
                    Err(ScopeError::Elapsed)
                }
            }
        })
        .await
    }
}

/// Ends a run as cancelled when it is dropped.
struct Cancelled<'a>(Option<&'a RunHandle>);

impl Cancelled<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        const CANCELLED: &str = "cancelled";

        if let Some(run) = self.0 {
            run.finish_later(RunStats::new(CANCELLED).error(CANCELLED));
        }
    }
}

/// Returns the message of a panic, as far as it is a text.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that isn't a text")
}
