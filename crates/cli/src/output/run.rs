use anstyle::{AnsiColor, Style};
use chrono::{DateTime, Utc};
use runtrail::{RunStatus, RunSummary};

use super::{duration, printable};

/// Formats a status in its colour.
pub(crate) fn status(status: &RunStatus) -> String {
    let colour = match status.as_str() {
        "ok" => Some(AnsiColor::Green),
        "error" => Some(AnsiColor::Red),
        "timeout" => Some(AnsiColor::Yellow),
        "running" => Some(AnsiColor::Cyan),
        _ => None,
    };
    let style = Style::new().fg_color(colour.map(Into::into));
    format!("{style}{}{style:#}", printable(status.as_str()))
}

/// Formats how long a run took, or, with a `+`, how long it has been running so far.
pub(crate) fn run_duration(run: &RunSummary, now: DateTime<Utc>) -> String {
    let sign = if run.finished_at.is_none() { "+" } else { "" };
    duration(run.elapsed_seconds(now)) + sign
}
