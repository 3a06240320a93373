//! Notes and warnings on stderr, apart from the results.

use std::fmt::Display;
use std::io::{self, Write};

use futures_util::{Stream, StreamExt};
use runtrail::{Error, Result};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::output::printable;

/// Prints the store's warnings: damaged rows, and how a database was opened.
pub(crate) fn report_on_stderr() {
    let of_the_store = Targets::new()
        .with_target("runtrail_copy", LevelFilter::WARN)
        .with_target("runtrail_db", LevelFilter::WARN)
        .with_target("runtrail_store", LevelFilter::WARN)
        .with_target("runtrail_migration", LevelFilter::WARN);
    let on_stderr = fmt::layer()
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .with_filter(of_the_store);
    tracing_subscriber::registry().with(on_stderr).init();
}

/// Prints one line on stderr, made safe for a terminal.
pub(crate) fn note(message: impl Display) {
    let mut line = printable(&message.to_string());
    line.push('\n');
    // One write, since the program that `exec` runs may print to the same stderr.
    // If stderr fails, there is nowhere to report it.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Warns about a damaged row that is left out.
pub(crate) fn warn_damaged(err: &Error) {
    note(format!("warning: {err}"));
}

/// Replaces damaged rows with warnings.
pub(crate) fn skip_damaged<T>(
    records: impl Stream<Item = Result<T>> + Unpin,
) -> impl Stream<Item = Result<T>> + Unpin {
    let readable = records.filter_map(|record| {
        std::future::ready(match record {
            Err(err @ Error::Corrupt { .. }) => {
                warn_damaged(&err);
                None
            }
            record => Some(record),
        })
    });
    Box::pin(readable)
}
