//! What is told beside the results: on stderr.

use std::collections::HashSet;
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

/// Tells something, in a line that can be shown on a terminal, if anybody is there to read it.
pub(crate) fn note(message: impl Display) {
    let line = printable(&message.to_string());
    // There is nowhere to tell that it could not be told.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Tells of a row that can't be read, and is left out.
pub(crate) fn damaged(err: &Error) {
    note(format!("warning: {err}"));
}

/// Tells of damaged rows, and goes on with the others.
pub(crate) fn instead_of_damage<T>(
    records: impl Stream<Item = Result<T>> + Unpin,
) -> impl Stream<Item = Result<T>> + Unpin {
    readable(records, damaged)
}

/// The same for records that are read repeatedly.
pub(crate) fn instead_of_damage_told_once<T>(
    records: impl Stream<Item = Result<T>> + Unpin,
    told: &mut HashSet<String>,
) -> impl Stream<Item = Result<T>> + Unpin {
    readable(records, |err| {
        if told.insert(err.to_string()) {
            damaged(err);
        }
    })
}

fn readable<T>(
    records: impl Stream<Item = Result<T>> + Unpin,
    mut tell: impl FnMut(&Error) + Unpin,
) -> impl Stream<Item = Result<T>> + Unpin {
    let readable = records.filter_map(move |record| {
        std::future::ready(match record {
            Err(err @ Error::Corrupt { .. }) => {
                tell(&err);
                None
            }
            record => Some(record),
        })
    });
    Box::pin(readable)
}
