use std::io::{self, Write};

use anstyle::Style;
use runtrail::SkillRunLog;

use super::{payload, printable};

/// Prints an event on one line: time, type and payload.
pub(crate) fn print_event(
    out: &mut impl Write,
    event: &SkillRunLog,
    width: Option<usize>,
) -> io::Result<()> {
    let time = event.created_at.unwrap_or_default().format("%H:%M:%S%.3f");
    let dimmed = Style::new().dimmed();
    let line = format!(
        "{dimmed}{time}{dimmed:#}  {:<10}  {}",
        printable(&event.event_type),
        payload(&event.payload),
    );
    let line = match width {
        Some(width) => console::truncate_str(&line, width, "…"),
        None => line.into(),
    };
    writeln!(out, "{}", line.trim_end())
}
