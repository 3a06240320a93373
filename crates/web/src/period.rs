//! The time that a chart is about.

use chrono::{DateTime, TimeDelta, Utc};
use runtrail_audit::{BucketWidth, Buckets};

use crate::error::{Failure, Result};
use crate::filters::Filters;

/// Charts with more bars than this can't be read on a narrow screen.
const MAX_BARS: i64 = 48;

const YEAR: i64 = 31_556_952;

/// Widths of bars, with their lengths in seconds; months have a mean length.
const WIDTHS: [(i64, BucketWidth, &str); 10] = [
    (60, BucketWidth::Minutes(1), "minute"),
    (300, BucketWidth::Minutes(5), "5 minutes"),
    (900, BucketWidth::Minutes(15), "15 minutes"),
    (3_600, BucketWidth::Hours(1), "hour"),
    (10_800, BucketWidth::Hours(3), "3 hours"),
    (21_600, BucketWidth::Hours(6), "6 hours"),
    (86_400, BucketWidth::Days(1), "day"),
    (604_800, BucketWidth::Weeks(1), "week"),
    (YEAR / 12, BucketWidth::Months(1), "month"),
    (YEAR / 4, BucketWidth::Months(3), "3 months"),
];

/// The time that a chart is about, divided into its bars.
#[derive(Debug)]
pub(crate) struct Period {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    pub(crate) buckets: Buckets,
    /// How long each bar is, such as `6 hours`.
    pub(crate) width: &'static str,
    /// The format of a bar's start.
    format: &'static str,
}

impl Period {
    /// Returns the time of a filter. If it has no beginning, the time is this long.
    pub(crate) fn of(filters: &Filters, length: TimeDelta, now: DateTime<Utc>) -> Result<Self> {
        let to = filters.to.unwrap_or(now);
        let default = || to.checked_sub_signed(length).unwrap_or(to);
        let from = filters.from.unwrap_or_else(default);
        if from > to {
            return Err(Failure::bad_request("The time ends before it begins."));
        }
        let seconds = (to - from).num_seconds();
        let fits = |(length, ..): &(i64, BucketWidth, &str)| length * MAX_BARS >= seconds;
        let (width, name) = match WIDTHS.into_iter().find(fits) {
            Some((_, width, name)) => (width, name),
            None => {
                // At most 10,000 years.
                let years = (seconds / YEAR / MAX_BARS + 1) as u32;
                let name = if years == 1 { "year" } else { "bar" };
                (BucketWidth::Months(12 * years), name)
            }
        };
        let format = match width {
            BucketWidth::Minutes(_) | BucketWidth::Hours(_) => "%b %-d, %H:%M",
            BucketWidth::Days(_) | BucketWidth::Weeks(_) => "%b %-d",
            _ => "%b %Y",
        };
        Ok(Self {
            from,
            to,
            buckets: Buckets::every(width, &Utc, from, to)?,
            width: name,
            format,
        })
    }

    /// Formats the start of a bar, in UTC.
    pub(crate) fn label(&self, start: DateTime<Utc>) -> String {
        start.format(self.format).to_string()
    }

    /// Returns the first and the last time of each bar.
    pub(crate) fn bars(&self) -> impl Iterator<Item = (DateTime<Utc>, DateTime<Utc>)> {
        let starts = self.buckets.starts();
        let ends = starts[1..]
            .iter()
            .map(|start| *start - TimeDelta::microseconds(1));
        starts.iter().copied().zip(ends.chain([self.to]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(from: &str, to: &str) -> Result<Period> {
        let filters = Filters::default().between(from.parse().unwrap(), to.parse().unwrap());
        Period::of(&filters, TimeDelta::days(7), DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_chart_has_a_readable_number_of_bars() {
        for (from, to, width, bars) in [
            ("2026-11-24T12:30:00Z", "2026-11-24T12:30:00Z", "minute", 1),
            ("2026-11-23T12:30:00Z", "2026-11-24T12:30:00Z", "hour", 25),
            (
                "2026-11-17T12:30:00Z",
                "2026-11-24T12:30:00Z",
                "6 hours",
                29,
            ),
            ("2026-10-25T12:30:00Z", "2026-11-24T12:30:00Z", "day", 31),
            ("2026-08-26T12:30:00Z", "2026-11-24T12:30:00Z", "week", 14),
            ("1970-01-01T00:00:00Z", "2026-11-24T12:30:00Z", "bar", 29),
            ("0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "bar", 48),
        ] {
            let period = period(from, to).unwrap();
            let starts = period.buckets.starts().len();
            assert_eq!((period.width, starts), (width, bars), "{from}");
            assert_eq!(period.bars().count(), bars);
        }
    }

    #[test]
    fn bars_meet() {
        let period = period("2026-11-24T00:00:00Z", "2026-11-24T01:30:00Z").unwrap();
        let bars: Vec<_> = period.bars().collect();
        for pair in bars.windows(2) {
            assert_eq!(pair[0].1 + TimeDelta::microseconds(1), pair[1].0);
        }
        assert_eq!(bars.last().unwrap().1, period.to);
    }

    #[test]
    fn a_time_that_ends_before_it_begins_is_refused() {
        assert!(period("2026-11-24T00:00:01Z", "2026-11-24T00:00:00Z").is_err());
    }
}
