//! Recording the result of a future.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use runtrail_audit::{RunStats, RunStatus};

use crate::RunHandle;

/// The error of [`RunHandle::scope_within`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeError<E> {
    /// The future failed.
    Failed(E),
    /// The future took longer than the limit, and was dropped.
    TimedOut,
}

impl<E: fmt::Display> fmt::Display for ScopeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(err) => err.fmt(f),
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ScopeError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(err) => err.source(),
            Self::TimedOut => None,
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
    /// | the scope is dropped before the future completes | `cancelled` | `cancelled` |
    ///
    /// If the future itself has finished the run, that outcome stays.
    ///
    /// # Errors
    ///
    /// The error of the future.
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
        let guard = CancelGuard(Some(self));
        let result = AssertUnwindSafe(future).catch_unwind().await;
        guard.disarm();
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

    /// Like [`scope`](Self::scope), but drops the future once `limit` has passed. The run then ends
    /// with the status `timeout`.
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
                    Err(ScopeError::TimedOut)
                }
            }
        })
        .await
    }
}

/// A guard that ends the run as cancelled unless it is disarmed.
struct CancelGuard<'a>(Option<&'a RunHandle>);

impl CancelGuard<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        const CANCELLED: &str = "cancelled";

        if let Some(run) = self.0 {
            run.finish_later(RunStats::new(CANCELLED).error(CANCELLED));
        }
    }
}

/// Returns the message of a panic, if it is a string.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that isn't a string")
}
