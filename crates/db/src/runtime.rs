//! Checks the tokio runtime that a store is called on.

use std::panic;
use std::time::Duration;

use runtrail_audit::{Error, Result};
use tokio::runtime::Handle;

/// Refuses a runtime without timers, on which the first wait would panic.
///
/// Tokio has no query for this. Creating a timer panics on a runtime without timers, and has no other effect.
pub fn verify() -> Result<()> {
    let unfit = |reason: &str| Error::Backend {
        transient: false,
        source: reason.into(),
    };
    Handle::try_current().map_err(|err| unfit(&err.to_string()))?;
    let timer = panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO)));
    timer.map_err(|_| unfit("the tokio runtime has no timers: build it with enable_all()"))
}
