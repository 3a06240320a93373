//! Checks the tokio runtime that a store is called on.

use std::panic;
use std::time::Duration;

use runtrail_audit::{Error, Result};
use tokio::runtime::Handle;

/// Fails outside a runtime, and on a runtime without timers, where the first wait would panic.
///
/// Tokio has no query for timers, so this function creates a timer, which panics if the runtime has
/// none.
pub fn verify() -> Result<()> {
    let error = |reason: &str| Error::Backend {
        transient: false,
        source: reason.into(),
    };
    Handle::try_current().map_err(|err| error(&err.to_string()))?;
    let timer = panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO)));
    timer.map_err(|_| error("the tokio runtime has no timers: build it with enable_all()"))
}
