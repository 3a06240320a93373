//! Formats results: plain for programs, with tables and colours for people.

mod event;
mod printable;
mod progress;
mod quantity;
mod record;
mod run;
mod run_list;
mod short_id;
mod table;
mod trend;

use std::env;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use anstream::AutoStream;
use futures_util::{FutureExt, Stream, StreamExt};
use serde::Serialize;

use crate::failure::Result;

pub(crate) use event::print_event;
pub(crate) use printable::{payload, printable};
pub(crate) use progress::progress;
pub(crate) use quantity::{ago, count, counted, dollars, duration, rough_count};
pub(crate) use record::Record;
pub(crate) use run::{run_duration, status};
pub(crate) use run_list::{RunList, run_table};
pub(crate) use short_id::shorten_ids;
pub(crate) use table::{Column, Table};
pub(crate) use trend::trend;

/// Returns stdout without styles.
pub(crate) fn plain() -> BufWriter<Stdout> {
    BufWriter::new(io::stdout())
}

/// Returns stdout for people. It strips colours where they aren't wanted.
pub(crate) fn styled() -> BufWriter<AutoStream<Stdout>> {
    BufWriter::new(anstream::AutoStream::auto(io::stdout()))
}

/// Prints a table, fitted to the width of the terminal.
pub(crate) fn show<const N: usize>(table: &Table<N>) -> Result<()> {
    let mut out = styled();
    table.print(&mut out, width())?;
    finish(out)
}

/// Prints each record as a line of JSON.
pub(crate) fn json_lines<T: Serialize>(records: impl IntoIterator<Item = T>) -> Result<()> {
    let mut out = plain();
    for record in records {
        json_line(&mut out, &record)?;
    }
    finish(out)
}

/// Returns the next record of a stream. If it has to wait for one, it flushes the buffer first.
pub(crate) async fn next<S: Stream + Unpin>(
    records: &mut S,
    out: &mut impl Write,
) -> Result<Option<S::Item>> {
    if let Some(record) = records.next().now_or_never() {
        return Ok(record);
    }
    out.flush()?;
    Ok(records.next().await)
}

/// Flushes the buffer. Dropping it would hide a write error.
pub(crate) fn finish(mut out: impl Write) -> Result<()> {
    Ok(out.flush()?)
}

/// Writes one line of JSON.
pub(crate) fn json_line(out: &mut impl Write, record: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, record).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Returns the width in columns: `COLUMNS`, or that of the terminal; `None` without either.
pub(crate) fn width() -> Option<usize> {
    let given = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    given.filter(|columns| *columns > 0).or_else(|| {
        let stdout = console::Term::stdout();
        let size = io::stdout().is_terminal().then(|| stdout.size_checked())?;
        size.map(|(_, columns)| usize::from(columns))
    })
}
