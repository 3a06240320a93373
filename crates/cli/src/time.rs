use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

/// A time on the command line: absolute, or an age.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Time {
    At(DateTime<Utc>),
    Ago(TimeDelta),
}

impl Time {
    /// Returns the absolute time, given the current one.
    pub(crate) fn resolve(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            // An age beyond the range means the earliest time.
            Self::Ago(age) => now
                .checked_sub_signed(age)
                .unwrap_or(DateTime::<Utc>::MIN_UTC),
        }
    }
}

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let age = text.strip_suffix("ago").unwrap_or(text).trim();
        if let Ok(age) = humantime::parse_duration(age) {
            let age = TimeDelta::from_std(age).map_err(|_| "this is too long ago")?;
            return Ok(Self::Ago(age));
        }
        if let Ok(date) = NaiveDate::from_str(text) {
            return Ok(Self::At(date.and_time(NaiveTime::MIN).and_utc()));
        }
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self::At(time.to_utc()))
            .map_err(|_| {
                "expected a time such as 2026-11-24T09:30:00Z or 2026-11-24 (UTC), or an \
                age such as 2h or 7d (s, m, h, d, w, M for months, y)"
            })
    }
}

/// Parses a duration that is not zero, such as `30s` or `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|err| format!("expected a duration such as 30s or 1h 30m: {err}"))?;
    if duration.is_zero() {
        return Err("the duration must be longer than 0".to_owned());
    }
    Ok(duration)
}
