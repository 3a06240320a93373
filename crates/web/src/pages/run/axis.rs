//! The time axis of a waterfall.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

/// The width of a bar's picture.
const WIDTH: f64 = 1_000.0;

/// The least width of a bar, so that it can be seen.
const MIN_BAR: f64 = 3.0;

/// A span of time that all bars share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Axis {
    pub(super) fn new(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        Self {
            from,
            to: to.max(from),
        }
    }

    /// Returns the end, which the windows of a running tree share.
    pub(super) fn to(&self) -> DateTime<Utc> {
        self.to
    }

    /// Returns the length in seconds.
    pub(super) fn seconds(&self) -> f64 {
        (self.to - self.from).as_seconds_f64()
    }

    /// Returns how many seconds after the beginning a time is.
    pub(super) fn offset(&self, time: DateTime<Utc>) -> f64 {
        (time - self.from).as_seconds_f64()
    }

    /// Returns the left end and the width of the bar between two times, within the axis.
    fn bar(&self, start: DateTime<Utc>, end: DateTime<Utc>) -> (f64, f64) {
        let place = |time: DateTime<Utc>| match self.seconds() {
            0.0 => 0.0,
            length => (self.offset(time) / length).clamp(0.0, 1.0) * WIDTH,
        };
        let width = (place(end) - place(start)).max(MIN_BAR);
        (place(start).min(WIDTH - width), width)
    }

    /// Draws a bar. Its meaning is in the other cells of the row.
    pub(super) fn draw(&self, class: &str, start: DateTime<Utc>, end: DateTime<Utc>) -> Markup {
        let (left, width) = self.bar(start, end);
        html! {
            svg.bar viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
                rect class=(class) x=(format_args!("{left:.1}")) width=(format_args!("{width:.1}"))
                    y="1" height="8" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn second(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    #[test]
    fn bars_are_placed_on_the_axis_and_cut_at_its_ends() {
        let axis = Axis::new(second(100), second(200));
        for (start, end, expected) in [
            (100, 200, (0.0, 1_000.0)),
            (125, 150, (250.0, 250.0)),
            (50, 150, (0.0, 500.0)),
            (150, 900, (500.0, 500.0)),
            (200, 200, (1_000.0 - MIN_BAR, MIN_BAR)),
            (900, 950, (1_000.0 - MIN_BAR, MIN_BAR)),
            (150, 120, (500.0, MIN_BAR)),
        ] {
            assert_eq!(
                axis.bar(second(start), second(end)),
                expected,
                "{start}-{end}"
            );
        }
    }

    #[test]
    fn an_axis_without_a_length_has_bars_too() {
        let axis = Axis::new(second(9), second(1));
        assert_eq!(axis.bar(second(9), second(9)), (0.0, MIN_BAR));
        assert_eq!(axis.seconds(), 0.0);
    }
}
