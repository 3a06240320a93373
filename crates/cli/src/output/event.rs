use std::io::{self, Write};

use anstyle::Style;
use runtrail::SkillRunLog;

use super::{duration, payload, printable, rough_count};

/// Prints an event on one line: time, type, what is known of a call, and payload.
pub(crate) fn print_event(
    out: &mut impl Write,
    event: &SkillRunLog,
    width: Option<usize>,
) -> io::Result<()> {
    let time = event.created_at.unwrap_or_default().format("%H:%M:%S%.3f");
    let dimmed = Style::new().dimmed();
    let mut line = format!(
        "{dimmed}{time}{dimmed:#}  {:<10}  ",
        printable(&event.event_type)
    );
    if let Some(summary) = summary(event) {
        line += &format!("{dimmed}{summary}{dimmed:#}  ");
    }
    line += &payload(&event.payload);
    let line = match width {
        Some(width) => console::truncate_str(&line, width, "…"),
        None => line.into(),
    };
    writeln!(out, "{}", line.trim_end())
}

/// Formats what is known of a call, for example `gpt-5, 1.2k in, 80 out, 840ms, $0.0042` or
/// `search, 1.2s, error: no such city`.
fn summary(event: &SkillRunLog) -> Option<String> {
    const MICROS_PER_DOLLAR: f64 = 1e6;
    const MAX_ERROR_WIDTH: usize = 60;

    let is_call = matches!(event.event_type.as_str(), "tool_call" | "model_call");
    let text = |key| {
        let text = event.payload.get(key).filter(|_| is_call)?.as_str()?;
        Some(printable(text)).filter(|text| !text.is_empty())
    };
    let error = text("error").map(|error| {
        let error = console::truncate_str(&error, MAX_ERROR_WIDTH, "…").into_owned();
        format!("error: {error}")
    });

    let usage = event.usage.as_ref();
    let model = usage.and_then(|usage| usage.model.as_deref());
    let tokens = |count: Option<u64>, name| {
        let count = rough_count(count?);
        Some(format!("{count} {name}"))
    };
    let cost = usage.and_then(|usage| usage.cost_micros);
    let parts = [
        text("tool"),
        model.map(printable),
        usage.and_then(|usage| tokens(usage.input_tokens, "in")),
        usage.and_then(|usage| tokens(usage.output_tokens, "out")),
        event.duration.map(|time| duration(time.as_secs_f64())),
        cost.map(|cost| format!("${:.4}", cost as f64 / MICROS_PER_DOLLAR)),
        error,
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
