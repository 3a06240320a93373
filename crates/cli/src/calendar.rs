//! Periods of a calendar on the command line.

use std::str::FromStr;

use chrono::{DateTime, Local, Utc};
use chrono_tz::Tz;
use runtrail::{BucketWidth, Buckets};

/// Parses the width of a period, such as `15m`, `1h`, `1d`, `1w` or `3months`.
pub(crate) fn width(text: &str) -> Result<BucketWidth, &'static str> {
    const EXPECTED: &str = "expected a period such as 15m, 1h, 1d, 1w, 1month or 1y";

    let unit = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u32 = number.parse().map_err(|_| EXPECTED)?;
    let width = match unit.trim() {
        "m" | "min" | "minute" | "minutes" => BucketWidth::Minutes(number),
        "h" | "hour" | "hours" => BucketWidth::Hours(number),
        "d" | "day" | "days" => BucketWidth::Days(number),
        "w" | "week" | "weeks" => BucketWidth::Weeks(number),
        "M" | "month" | "months" => BucketWidth::Months(number),
        "y" | "year" | "years" => BucketWidth::Months(number.saturating_mul(12)),
        _ => return Err(EXPECTED),
    };
    Ok(width)
}

/// A time zone on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Zone {
    Utc,
    /// That of the machine.
    Local,
    Named(Tz),
}

impl FromStr for Zone {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "utc" | "UTC" => Ok(Self::Utc),
            "local" => Ok(Self::Local),
            name => name
                .parse()
                .map(Self::Named)
                .map_err(|_| "expected a name such as Europe/Berlin, local or utc"),
        }
    }
}

impl Zone {
    /// Returns the periods between two times.
    pub(crate) fn buckets(
        self,
        width: BucketWidth,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> runtrail::Result<Buckets> {
        match self {
            Self::Utc => Buckets::every(width, &Utc, from, to),
            Self::Local => Buckets::every(width, &Local, from, to),
            Self::Named(zone) => Buckets::every(width, &zone, from, to),
        }
    }
}
