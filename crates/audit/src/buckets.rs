use chrono::{
    DateTime, Datelike, Days, MappedLocalTime, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone,
    Utc,
};

use crate::{Error, Result, rules};

/// Consecutive periods of time, by which [`Statistics`](crate::Statistics) are divided.
///
/// A bucket ends where the next one begins; the last one has no end.
///
/// ```
/// use chrono::{FixedOffset, TimeZone, Utc};
/// use runtrail_audit::{BucketWidth, Buckets};
///
/// # fn main() -> runtrail_audit::Result<()> {
/// let from = Utc.with_ymd_and_hms(2026, 11, 1, 8, 0, 0).unwrap();
/// let to = Utc.with_ymd_and_hms(2026, 11, 3, 8, 0, 0).unwrap();
/// let days = Buckets::every(BucketWidth::Days(1), &Utc, from, to)?;
/// assert_eq!(days.starts().len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Buckets {
    starts: Vec<DateTime<Utc>>,
}

/// The width of [`Buckets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BucketWidth {
    /// A bucket begins whenever the local clock shows a multiple of this many minutes since
    /// midnight; 1 to 1,440.
    ///
    /// A time that a clock shows twice, since it is set back, begins a bucket twice.
    Minutes(u32),
    /// Like [`Minutes`](Self::Minutes), in hours; 1 to 24.
    Hours(u32),
    /// Local days. Each n-th day since 1970 begins a bucket.
    Days(u32),
    /// Local weeks from Monday to Sunday. Each n-th week since 1970 begins a bucket.
    Weeks(u32),
    /// Local months. Each n-th month since the year 0 begins a bucket, so 3 means quarters.
    Months(u32),
}

impl Buckets {
    /// The maximum number of buckets.
    pub const MAX: usize = 10_000;

    /// Creates buckets that begin at these times, in any order, truncated to microseconds.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](Error::InvalidInput) for no times, for more than [`MAX`](Self::MAX), and
    /// for one before the year 0 or after the year 9999.
    pub fn starting_at(times: impl IntoIterator<Item = DateTime<Utc>>) -> Result<Self> {
        let times = times.into_iter().take(Self::MAX + 1);
        let mut starts = times.map(truncated).collect::<Result<Vec<_>>>()?;
        if starts.is_empty() {
            return Err(Error::invalid("buckets", "must not be empty"));
        }
        if starts.len() > Self::MAX {
            return Err(too_many());
        }
        starts.sort();
        starts.dedup();
        Ok(Self { starts })
    }

    /// Creates the buckets of a calendar, from the one that contains `from` to the one that
    /// contains `to`.
    ///
    /// The time zone can be one of `chrono_tz`, or chrono's `Local`, `FixedOffset` or `Utc`. If
    /// its clocks skip midnight, a day begins when they first show that day.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](Error::InvalidInput) for a width that is out of range, for a time before
    /// the year 0 or after the year 9999, if `to` is before `from`, and for more than
    /// [`MAX`](Self::MAX) buckets.
    pub fn every<Z: TimeZone>(
        width: BucketWidth,
        zone: &Z,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Self> {
        let (from, to) = (truncated(from)?, truncated(to)?);
        if to < from {
            return Err(Error::invalid("buckets", "end before they begin"));
        }
        let local_date = |time: DateTime<Utc>| time.with_timezone(zone).date_naive();
        let last_day = local_date(to);
        let mut day = Some(width.first_day(local_date(from))?);
        let mut starts = Vec::new();
        while let Some(date) = day.filter(|date| *date <= last_day) {
            width.starts_on(date, zone, &mut starts);
            if starts.len() > 2 * Self::MAX {
                return Err(too_many());
            }
            day = width.next_day(date);
        }
        starts.sort();
        starts.dedup();
        starts.retain(|start| *start <= to);
        let until_from = starts.partition_point(|start| *start <= from);
        starts.drain(..until_from.saturating_sub(1));
        Self::starting_at(starts)
    }

    /// Returns when each bucket begins, in order; never empty.
    pub fn starts(&self) -> &[DateTime<Utc>] {
        &self.starts
    }
}

impl BucketWidth {
    /// Returns the first day of the bucket that contains this day.
    fn first_day(self, date: NaiveDate) -> Result<NaiveDate> {
        let is_in_range = match self {
            Self::Minutes(minutes) => (1..=1_440).contains(&minutes),
            Self::Hours(hours) => (1..=24).contains(&hours),
            Self::Days(number) | Self::Weeks(number) | Self::Months(number) => {
                (1..=100_000).contains(&number)
            }
        };
        if !is_in_range {
            return Err(Error::invalid(
                "buckets",
                "have a width that is out of range",
            ));
        }
        let days = i64::from(date.to_epoch_days());
        let first = match self {
            Self::Minutes(_) | Self::Hours(_) => Some(date),
            Self::Days(number) => days_before(date, days.rem_euclid(number.into())),
            Self::Weeks(number) => {
                days_before(date, (days - MONDAY).rem_euclid(7 * i64::from(number)))
            }
            Self::Months(number) => {
                let months = i64::from(date.year()) * 12 + i64::from(date.month0());
                let excess = months.rem_euclid(number.into()) as u32;
                date.with_day(1)
                    .and_then(|first| first.checked_sub_months(Months::new(excess)))
            }
        };
        first.ok_or_else(|| Error::invalid("buckets", "begin before the earliest date"))
    }

    fn next_day(self, date: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Minutes(_) | Self::Hours(_) => date.succ_opt(),
            Self::Days(number) => date.checked_add_days(Days::new(number.into())),
            Self::Weeks(number) => date.checked_add_days(Days::new(7 * u64::from(number))),
            Self::Months(number) => date.checked_add_months(Months::new(number)),
        }
    }

    /// Adds the times of a day at which a bucket begins.
    fn starts_on<Z: TimeZone>(self, date: NaiveDate, zone: &Z, starts: &mut Vec<DateTime<Utc>>) {
        let minutes = match self {
            Self::Minutes(minutes) => minutes,
            Self::Hours(hours) => 60 * hours,
            Self::Days(_) | Self::Weeks(_) | Self::Months(_) => {
                starts.extend(first_instant(date, zone));
                return;
            }
        };
        for minute in (0..MINUTES_PER_DAY).step_by(minutes as usize) {
            match instants(date, minute, zone) {
                MappedLocalTime::Single(time) => starts.push(time.to_utc()),
                MappedLocalTime::Ambiguous(first, second) => {
                    starts.extend([first.to_utc(), second.to_utc()]);
                }
                MappedLocalTime::None => {}
            }
        }
    }
}

/// A Monday, in days since the epoch.
const MONDAY: i64 = 4;

const MINUTES_PER_DAY: i64 = 1_440;

fn days_before(date: NaiveDate, days: i64) -> Option<NaiveDate> {
    date.checked_sub_days(Days::new(days.unsigned_abs()))
}

/// Returns when the clocks of a zone show this minute of a day.
fn instants<Z: TimeZone>(date: NaiveDate, minute: i64, zone: &Z) -> MappedLocalTime<DateTime<Z>> {
    zone.from_local_datetime(&(date.and_time(NaiveTime::MIN) + TimeDelta::minutes(minute)))
}

/// Returns when the clocks of a zone first show this day; `None` if they skip it.
fn first_instant<Z: TimeZone>(date: NaiveDate, zone: &Z) -> Option<DateTime<Utc>> {
    let times = (0..MINUTES_PER_DAY).map(|minute| instants(date, minute, zone).earliest());
    times.flatten().next().map(|time| time.to_utc())
}

/// Truncates a time to microseconds. A time that is far from all others could overflow the
/// arithmetic of a database.
fn truncated(time: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let is_in_range = (0..=9_999).contains(&time.year());
    let time = DateTime::from_timestamp_micros(rules::micros(time)).filter(|_| is_in_range);
    time.ok_or_else(|| Error::invalid("buckets", "must begin in the years 0 to 9999"))
}

fn too_many() -> Error {
    Error::invalid("buckets", "must be at most 10,000")
}

#[cfg(test)]
mod tests {
    use chrono_tz::America::Sao_Paulo;
    use chrono_tz::Asia::Kolkata;
    use chrono_tz::Europe::Berlin;
    use chrono_tz::Pacific::Apia;
    use chrono_tz::Tz;

    use super::*;
    use crate::ErrorKind;

    fn time(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn starts(width: BucketWidth, zone: Tz, from: &str, to: &str) -> Vec<String> {
        let buckets = Buckets::every(width, &zone, time(from), time(to)).unwrap();
        let starts = buckets
            .starts()
            .iter()
            .map(|start| start.with_timezone(&zone));
        starts.map(|start| start.to_rfc3339()).collect()
    }

    #[test]
    fn days_begin_at_local_midnight_while_clocks_change() {
        let days = starts(
            BucketWidth::Days(1),
            Berlin,
            "2026-03-28T12:00:00Z",
            "2026-03-30T12:00:00Z",
        );
        let expected = [
            "2026-03-28T00:00:00+01:00",
            "2026-03-29T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
        ];
        assert_eq!(days, expected);
        let days = starts(
            BucketWidth::Days(1),
            Berlin,
            "2026-10-25T12:00:00Z",
            "2026-10-26T12:00:00Z",
        );
        assert_eq!(
            days,
            ["2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"]
        );
    }

    #[test]
    fn an_hour_that_occurs_twice_has_two_buckets_and_a_skipped_one_none() {
        let hours = starts(
            BucketWidth::Hours(1),
            Berlin,
            "2026-10-25T00:30:00Z",
            "2026-10-25T02:00:00Z",
        );
        let expected = [
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T03:00:00+01:00",
        ];
        assert_eq!(hours, expected);
        let hours = starts(
            BucketWidth::Hours(1),
            Berlin,
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:30:00Z",
        );
        assert_eq!(
            hours,
            ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]
        );
        let hours = starts(
            BucketWidth::Hours(6),
            Berlin,
            "2026-10-24T22:00:00Z",
            "2026-10-25T11:00:00Z",
        );
        let expected = [
            "2026-10-25T00:00:00+02:00",
            "2026-10-25T06:00:00+01:00",
            "2026-10-25T12:00:00+01:00",
        ];
        assert_eq!(hours, expected);
    }

    #[test]
    fn a_day_without_midnight_begins_when_clocks_first_show_it() {
        let days = starts(
            BucketWidth::Days(1),
            Sao_Paulo,
            "2018-11-03T12:00:00Z",
            "2018-11-05T12:00:00Z",
        );
        let expected = [
            "2018-11-03T00:00:00-03:00",
            "2018-11-04T01:00:00-02:00",
            "2018-11-05T00:00:00-02:00",
        ];
        assert_eq!(days, expected);
        let days = starts(
            BucketWidth::Days(1),
            Apia,
            "2011-12-30T00:00:00Z",
            "2011-12-31T00:00:00Z",
        );
        assert_eq!(
            days,
            ["2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"]
        );
    }

    #[test]
    fn hours_follow_the_local_clock_where_the_offset_is_not_a_whole_hour() {
        let hours = starts(
            BucketWidth::Hours(1),
            Kolkata,
            "2026-11-28T00:00:00Z",
            "2026-11-28T00:45:00Z",
        );
        assert_eq!(
            hours,
            ["2026-11-28T05:00:00+05:30", "2026-11-28T06:00:00+05:30"]
        );
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let (from, to) = ("2026-01-01T00:00:00Z", "2026-02-28T00:00:00Z");
        let weeks = starts(BucketWidth::Weeks(1), Tz::UTC, from, to);
        assert_eq!(
            weeks[..2],
            ["2025-12-29T00:00:00+00:00", "2026-01-05T00:00:00+00:00"]
        );
        let months = starts(BucketWidth::Months(1), Tz::UTC, from, to);
        assert_eq!(
            months,
            ["2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"]
        );
        let quarters = starts(BucketWidth::Months(3), Berlin, from, "2026-04-01T00:00:00Z");
        assert_eq!(
            quarters,
            ["2026-01-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"]
        );
        let before_the_epoch = starts(
            BucketWidth::Days(7),
            Tz::UTC,
            "1969-12-30T00:00:00Z",
            "1970-01-01T00:00:00Z",
        );
        assert_eq!(
            before_the_epoch,
            ["1969-12-25T00:00:00+00:00", "1970-01-01T00:00:00+00:00"]
        );
    }

    #[test]
    fn the_number_of_buckets_is_limited() {
        let from = DateTime::UNIX_EPOCH;
        let every = |width, to| Buckets::every(width, &Utc, from, to);
        let minutes = |minutes| from + TimeDelta::minutes(minutes);
        let most = every(BucketWidth::Minutes(1), minutes(9_999)).unwrap();
        assert_eq!(most.starts().len(), Buckets::MAX);
        let kind = |buckets: Result<Buckets>| buckets.unwrap_err().kind();
        for refused in [
            every(BucketWidth::Minutes(1), minutes(10_000)),
            every(BucketWidth::Minutes(1), time("9999-12-31T00:00:00Z")),
            every(BucketWidth::Days(1), time("9999-12-31T00:00:00Z")),
            every(BucketWidth::Days(0), minutes(1)),
            every(BucketWidth::Hours(25), minutes(1)),
            every(BucketWidth::Months(u32::MAX), minutes(1)),
            every(BucketWidth::Days(1), minutes(-1)),
            every(BucketWidth::Days(1), DateTime::<Utc>::MAX_UTC),
            Buckets::starting_at([]),
            Buckets::starting_at([DateTime::<Utc>::MIN_UTC]),
            Buckets::starting_at((0..10_001).map(minutes)),
        ] {
            assert_eq!(kind(refused), ErrorKind::InvalidInput);
        }
    }
}
