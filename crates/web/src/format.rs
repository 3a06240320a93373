//! Texts, times and quantities as the page shows them.

use std::borrow::Cow;
use std::fmt::Write;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use maud::{Markup, html};
use runtrail_audit::{RunStatus, RunSummary};

/// Makes a text one line without characters that are invisible or change the order of others.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    visible(text, |character| matches!(character, '\n' | '\t'))
}

/// Like [`line`], but keeps line breaks and tabs.
pub(crate) fn block(text: &str) -> Cow<'_, str> {
    visible(text, |_| false)
}

fn visible(text: &str, is_replaced: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_harmless = |character: char| match character {
        '\n' | '\t' => !is_replaced(character),
        _ => !character.is_control() && !changes_order(character),
    };
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            _ if is_harmless(character) => shown.push(character),
            '\n' => shown.push('⏎'),
            '\t' => shown.push(' '),
            // The usual end of a line elsewhere.
            '\r' if characters.peek() == Some(&'\n') => {}
            '\0'..' ' => shown.extend(char::from_u32(0x2400 + u32::from(character))),
            '\u{7F}' => shown.push('␡'),
            // Writing to a string can't fail.
            _ => _ = write!(shown, "⟨U+{:04X}⟩", u32::from(character)),
        }
    }
    Cow::Owned(shown)
}

/// Whether a character can make a text appear in another order than it is stored.
fn changes_order(character: char) -> bool {
    matches!(
        character,
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

/// Shows a text of the history on one line; its direction doesn't affect what is around it.
pub(crate) fn name(text: &str) -> Markup {
    html! { bdi { (line(text)) } }
}

/// Shows a time as an age, with the full time as its title.
pub(crate) fn time(time: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    html! {
        time datetime=(machine_time(time)) title=(full_time(time)) data-age { (ago(time, now)) }
    }
}

/// Formats a time for programs, to the microsecond.
pub(crate) fn machine_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Formats a time for people, to the millisecond.
pub(crate) fn full_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

/// Formats how long ago a time was, for example `3m ago`; after 60 days the date.
pub(crate) fn ago(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let age = now - time;
    let seconds = age.abs().num_seconds();
    let length = match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        172_800..5_184_000 => format!("{}d", seconds / 86_400),
        _ => return time.format("%Y-%m-%d").to_string(),
    };
    match age < TimeDelta::zero() {
        true => format!("in {length}"),
        false => format!("{length} ago"),
    }
}

/// Formats a duration, rounded for a quick look: `120ms`, `1.2s`, `3m 12s`, `2h 5m`, `3d 4h`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 0.001 && seconds > 0.0 {
        return format!("{:.0}µs", seconds * 1e6);
    }
    if seconds < 0.9995 {
        return format!("{:.0}ms", seconds * 1e3);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round();
    if whole >= 1e12 {
        return format!("{seconds:e}s");
    }
    let whole = whole as u64;
    let parts = |large: u64, large_name, small: u64, small_name| match small {
        0 => format!("{large}{large_name}"),
        _ => format!("{large}{large_name} {small}{small_name}"),
    };
    match whole {
        0..3_600 => parts(whole / 60, "m", whole % 60, "s"),
        3_600..86_400 => parts(whole / 3_600, "h", whole % 3_600 / 60, "m"),
        _ => parts(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}

/// Formats how long a run took, or, with a `+`, how long it has been running so far.
pub(crate) fn run_duration(run: &RunSummary, now: DateTime<Utc>) -> String {
    let sign = if run.finished_at.is_none() { "+" } else { "" };
    duration(run.elapsed_seconds(now)) + sign
}

/// Formats a number, for example `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a number for a narrow column, for example `1.2M`.
pub(crate) fn rough_count(number: u64) -> String {
    let mut scaled = number as f64;
    for unit in ["", "k", "M", "G", "T", "P"] {
        // What would be rounded to 1000.0 has the next unit.
        if scaled < 999.95 {
            return match unit {
                "" => number.to_string(),
                _ => format!("{scaled:.1}{unit}"),
            };
        }
        scaled /= 1_000.0;
    }
    format!("{scaled:.1}E")
}

/// Formats a number with its noun: `1 run`, `1,234 runs`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Formats an amount in millionths of a dollar, for example `$0.0123`.
pub(crate) fn dollars(micros: u64) -> String {
    let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let fraction = format!("{fraction:06}");
    let shown = fraction.trim_end_matches('0').len().max(2);
    format!("${}.{}", count(whole), &fraction[..shown])
}

/// Like [`dollars`], rounded to cents, or to hundredths of a cent below a dollar.
pub(crate) fn rough_dollars(micros: u64) -> String {
    let unit = if micros < 1_000_000 { 100 } else { 10_000 };
    dollars(micros.saturating_add(unit / 2) / unit * unit)
}

/// Shows a status as a word in its colour.
pub(crate) fn status(status: &RunStatus) -> Markup {
    html! {
        span class={ "status " (status_class(status.as_str())) } { (line(status.as_str())) }
    }
}

/// Returns the class of a status in the stylesheet. Hosts may have statuses of their own.
pub(crate) fn status_class(status: &str) -> &'static str {
    match status {
        "ok" => "is-ok",
        "error" => "is-error",
        "timeout" => "is-timeout",
        "running" => "is-running",
        "interrupted" => "is-interrupted",
        _ => "is-other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_become_visible() {
        for (text, one_line, several_lines) in [
            ("plain é 漢 👩‍💻", "plain é 漢 👩‍💻", "plain é 漢 👩‍💻"),
            ("a\nb\tc", "a⏎b c", "a\nb\tc"),
            ("a\r\nb\rc", "a⏎b␍c", "a\nb␍c"),
            ("\u{1B}[31mred\0\u{7F}", "␛[31mred␀␡", "␛[31mred␀␡"),
            ("\u{202E}txt.exe", "⟨U+202E⟩txt.exe", "⟨U+202E⟩txt.exe"),
            ("\u{9B}31m", "⟨U+009B⟩31m", "⟨U+009B⟩31m"),
        ] {
            assert_eq!(line(text), one_line);
            assert_eq!(block(text), several_lines);
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1_000);
        for (seconds, expected) in [
            (0, "0s ago"),
            (59, "59s ago"),
            (60, "1m ago"),
            (3_599, "59m ago"),
            (172_799, "47h ago"),
            (172_800, "2d ago"),
            (-90, "in 1m"),
            (5_184_000, "1972-07-29"),
        ] {
            assert_eq!(ago(now - TimeDelta::seconds(seconds), now), expected);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, expected) in [
            (0.0, "0ms"),
            (0.000_02, "20µs"),
            (0.84, "840ms"),
            (0.9996, "1.0s"),
            (1.25, "1.2s"),
            (59.96, "1m"),
            (192.0, "3m 12s"),
            (7_500.0, "2h 5m"),
            (86_400.0, "1d"),
            (100_000.0, "1d 3h"),
            (1e300, "1e300s"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn numbers_are_grouped_or_rounded() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        for (number, expected) in [
            (999, "999"),
            (1_000, "1.0k"),
            (999_949, "999.9k"),
            (999_950, "1.0M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(rough_count(number), expected);
        }
        assert_eq!(counted(1, "run"), "1 run");
        assert_eq!(counted(1_000, "run"), "1,000 runs");
        assert_eq!(dollars(1_234_560_000), "$1,234.56");
        assert_eq!(dollars(12_300), "$0.0123");
        assert_eq!(dollars(0), "$0.00");
        assert_eq!(rough_dollars(2_166_290), "$2.17");
        assert_eq!(rough_dollars(148_449), "$0.1484");
        assert_eq!(rough_dollars(40), "$0.00");
    }
}
