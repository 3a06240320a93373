use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use indicatif::{HumanCount, HumanDuration};
use unit_prefix::NumberPrefix;

/// Formats how long ago a time was, for example `3m ago`.
pub(crate) fn ago(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let age = now - time;
    let length = HumanDuration(age.abs().to_std().unwrap_or_default());
    if age < TimeDelta::zero() {
        format!("in {length:#}")
    } else {
        format!("{length:#} ago")
    }
}

/// Formats a duration, rounded for a quick look: `120ms`, `1.2s`, `3m 12s`, `2h 5m`, `3d`.
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

/// Formats a number, for example `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Formats a number for a narrow column, for example `1.2M`.
pub(crate) fn rough_count(number: u64) -> String {
    match NumberPrefix::decimal(number as f64) {
        NumberPrefix::Standalone(_) => number.to_string(),
        NumberPrefix::Prefixed(prefix, number) => format!("{number:.1}{prefix}"),
    }
}

/// Formats an amount in millionths of a dollar, for example `$0.0123`.
pub(crate) fn dollars(micros: u64) -> String {
    let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let fraction = format!("{fraction:06}");
    let shown = fraction.trim_end_matches('0').len().max(2);
    format!("${}.{}", count(whole), &fraction[..shown])
}

/// Formats a number with its noun: `1 run`, `1,234 runs`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}
