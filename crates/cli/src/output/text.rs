use std::time::Duration;

use anstyle::{AnsiColor, Style};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, TimeDelta, Utc};
use indicatif::{HumanCount, HumanDuration};
use runtrail_store::audit::{RunStatus, RunSummary};
use serde_json::Value;
use unit_prefix::NumberPrefix;

/// Text from the database in one line that can't move the cursor, change colours or turn the writing around.
pub(crate) fn printable(text: &str) -> String {
    let text = console::strip_ansi_codes(text);
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => printable.push('⏎'),
            '\t' => printable.push_str("    "),
            '\r' => {}
            _ if character.is_control() || turns_text_around(character) => {
                printable.push(char::REPLACEMENT_CHARACTER);
            }
            _ => printable.push(character),
        }
    }
    printable
}

/// The characters with which a text can show itself in another order than it has.
fn turns_text_around(character: char) -> bool {
    matches!(character, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The payload of an event: what a program printed, or the JSON.
pub(crate) fn payload(payload: &Value) -> String {
    let member = |name| payload.get(name).and_then(Value::as_str);
    let bytes = member("base64").and_then(|text| BASE64.decode(text).ok());
    if let Some(text) = member("text").or(payload.as_str()) {
        printable(text)
    } else if let Some(bytes) = bytes {
        printable(&String::from_utf8_lossy(&bytes))
    } else {
        printable(&payload.to_string())
    }
}

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

/// `3m ago`.
pub(crate) fn ago(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let age = now - time;
    let length = HumanDuration(age.abs().to_std().unwrap_or_default());
    if age < TimeDelta::zero() {
        format!("in {length:#}")
    } else {
        format!("{length:#} ago")
    }
}

/// `120ms`, `1.2s`, `3m 12s`, `2h 5m`, `3d`: as exact as anybody wants to know at a glance.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        return format!("{:.0}ms", seconds * 1000.0);
    }
    if seconds < 60.0 {
        return format!("{seconds:.1}s");
    }
    let Ok(length) = Duration::try_from_secs_f64(seconds) else {
        return format!("{seconds:e}s");
    };
    let unit = match length.as_secs() {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => return format!("{:#}", HumanDuration(length)),
    };
    let whole = Duration::from_secs(length.as_secs() / unit * unit);
    humantime::format_duration(whole).to_string()
}

/// How long a run took; how long it has been running, with a `+`, while it does.
pub(crate) fn run_duration(run: &RunSummary, now: DateTime<Utc>) -> String {
    let sign = if run.finished_at.is_none() { "+" } else { "" };
    duration(run_seconds(run, now)) + sign
}

/// The same in seconds.
pub(crate) fn run_seconds(run: &RunSummary, now: DateTime<Utc>) -> f64 {
    match run.finished_at {
        Some(_) if run.runtime_seconds > 0.0 => run.runtime_seconds,
        // A host need not report it.
        finished_at => {
            let length = finished_at.unwrap_or(now) - run.started_at;
            length.as_seconds_f64().max(0.0)
        }
    }
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `1.2M`, where a column has to be narrow.
pub(crate) fn rough_count(number: u64) -> String {
    match NumberPrefix::decimal(number as f64) {
        NumberPrefix::Standalone(_) => number.to_string(),
        NumberPrefix::Prefixed(prefix, number) => format!("{number:.1}{prefix}"),
    }
}

/// All the tokens of a run.
pub(crate) fn tokens(run: &RunSummary) -> u64 {
    run.total_input_tokens
        .saturating_add(run.total_output_tokens)
        .saturating_add(run.total_thinking_tokens)
}
