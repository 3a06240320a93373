//! How many runs started when, by status.

use std::collections::BTreeMap;

use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use runtrail_audit::{
    BucketWidth, Buckets, Dimension, RunStatistics, StatisticsQuery, StatisticsRow,
};

use super::CHART;
use crate::error::{Failure, Result};
use crate::filters::Filters;
use crate::format;
use crate::layout;
use crate::url::Parameters;
use crate::visitor::Visitor;

/// The period that is shown unless the filter has one.
const DEFAULT_SPAN: TimeDelta = TimeDelta::hours(24);

/// The number of bars is at most this one, and one more if the period begins within a bar.
const MAX_BARS: i64 = 60;

/// The widths of a bar, with their approximate length in minutes.
const WIDTHS: [(BucketWidth, i64); 19] = [
    (BucketWidth::Minutes(1), 1),
    (BucketWidth::Minutes(2), 2),
    (BucketWidth::Minutes(5), 5),
    (BucketWidth::Minutes(10), 10),
    (BucketWidth::Minutes(15), 15),
    (BucketWidth::Minutes(30), 30),
    (BucketWidth::Hours(1), 60),
    (BucketWidth::Hours(2), 120),
    (BucketWidth::Hours(3), 180),
    (BucketWidth::Hours(6), 360),
    (BucketWidth::Hours(12), 720),
    (BucketWidth::Days(1), 1_440),
    (BucketWidth::Days(2), 2_880),
    (BucketWidth::Weeks(1), 10_080),
    (BucketWidth::Months(1), 43_200),
    (BucketWidth::Months(3), 129_600),
    (BucketWidth::Months(12), 525_600),
    (BucketWidth::Months(120), 5_256_000),
    (BucketWidth::Months(2_400), 105_120_000),
];

/// The size of a bar in the units of the drawing, which is stretched to the width of the page.
const BAR_WIDTH: usize = 10;
const HEIGHT: u64 = 100;

/// Shows the histogram alone, for a script that inserts it into the list.
///
/// It reads every run of its period, and so can take longer than the list.
pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let filters = Filters::parse(&visitor.parameters, visitor.now)?;
    Ok(layout::fragment(of(&visitor, &filters).await?))
}

/// Links to the page with the histogram; a script replaces it by the histogram.
pub(crate) fn placeholder(filters: &Filters) -> Markup {
    let parameters = filters.parameters();
    html! {
        div.histogram data-fragment=(parameters.link("./histogram")) {
            a href=(parameters.with(CHART, "1").link("./")) { "Show runs over time" }
        }
    }
}

pub(crate) async fn of(visitor: &Visitor, filters: &Filters) -> Result<Markup> {
    let to = filters.to.unwrap_or(visitor.now);
    let from = filters.from.unwrap_or(to - DEFAULT_SPAN);
    if to <= from {
        return Err(Failure::bad_request("The period ends before it begins."));
    }
    let filters = filters.between(from, to);
    let buckets = Buckets::every(width(to - from), &Utc, from, to)?;
    let query = StatisticsQuery::of(visitor.restrict(filters.query()))
        .group_by([Dimension::Status])
        .buckets(buckets.clone());
    let rows = visitor.history().run_statistics(&query).await?;
    let bars = bars(&buckets, to, &rows);
    Ok(draw(&filters, (from, to), &bars))
}

fn width(span: TimeDelta) -> BucketWidth {
    let is_wide_enough = |(_, minutes): &&(BucketWidth, i64)| {
        span.num_minutes() <= minutes * MAX_BARS
    };
    let width = WIDTHS.iter().find(is_wide_enough);
    width.map_or(BucketWidth::Months(2_400), |(width, _)| *width)
}

/// The runs that started in a period.
struct Bar {
    from: DateTime<Utc>,
    /// When the next bar begins.
    to: DateTime<Utc>,
    by_status: BTreeMap<String, u64>,
}

impl Bar {
    fn runs(&self) -> u64 {
        self.by_status.values().sum()
    }
}

fn bars(
    buckets: &Buckets,
    end: DateTime<Utc>,
    rows: &[StatisticsRow<RunStatistics>],
) -> Vec<Bar> {
    let starts = buckets.starts();
    let ends = starts.iter().copied().skip(1).chain([end + TimeDelta::microseconds(1)]);
    let mut bars: Vec<_> = starts
        .iter()
        .zip(ends)
        .map(|(from, to)| Bar {
            from: *from,
            to,
            by_status: BTreeMap::new(),
        })
        .collect();
    for row in rows {
        let place = row.bucket.and_then(|start| starts.binary_search(&start).ok());
        let status = row.group.first().cloned().flatten().unwrap_or_default();
        if let Some(bar) = place.and_then(|place| bars.get_mut(place)) {
            bar.by_status.insert(status, row.values.runs);
        }
    }
    bars
}

fn draw(filters: &Filters, (from, to): (DateTime<Utc>, DateTime<Utc>), bars: &[Bar]) -> Markup {
    let highest = bars.iter().map(Bar::runs).max().unwrap_or_default().max(1);
    let view_box = format!("0 0 {} {HEIGHT}", bars.len() * BAR_WIDTH);
    let link = |bar: &Bar| {
        let (from, to) = bounds(bar, from);
        filters.between(from, to).parameters().link("./")
    };
    html! {
        figure.histogram data-link=(without_times(filters).link("./")) {
            figcaption { (summary(bars, from, to)) }
            svg viewBox=(view_box) preserveAspectRatio="none" aria-hidden="true" {
                @for (place, bar) in bars.iter().enumerate() {
                    @let (bar_from, bar_to) = bounds(bar, from);
                    @let x = place * BAR_WIDTH;
                    a href=(link(bar)) tabindex="-1" data-from=(format::machine_time(bar_from))
                        data-to=(format::machine_time(bar_to)) {
                        title { (description(bar)) }
                        rect.target x=(x) width=(BAR_WIDTH) height=(HEIGHT) {}
                        (stack(bar, x, highest))
                    }
                }
            }
            div.axis {
                span { (short_time(from)) }
                span.muted { "at most " (format::counted(highest, "run")) " per bar" }
                span { (short_time(to)) }
            }
            details {
                summary { "As a table" }
                (table(bars, link))
            }
        }
    }
}

/// Returns the first and the last time of a bar, both inclusive, within the shown period.
fn bounds(bar: &Bar, from: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    (bar.from.max(from), bar.to - TimeDelta::microseconds(1))
}

/// Returns the parameters of a filter, to which a script adds the selected times.
fn without_times(filters: &Filters) -> Parameters {
    let mut filters = filters.clone();
    (filters.from, filters.to) = (None, None);
    filters.parameters()
}

/// Draws the statuses of a bar on top of each other. None is so low that it can't be seen.
fn stack(bar: &Bar, x: usize, highest: u64) -> Markup {
    const LOWEST: u64 = 2;

    let mut top = HEIGHT;
    let parts = bar.by_status.iter().map(|(status, runs)| {
        let height = runs.saturating_mul(HEIGHT).div_ceil(highest).max(LOWEST);
        let height = height.min(top);
        top -= height;
        (format::status_class(status), top, height)
    });
    html! {
        @for (class, y, height) in parts {
            rect class=(class) x=(x + 1) y=(y) width=(BAR_WIDTH - 2) height=(height) {}
        }
    }
}

fn table(bars: &[Bar], link: impl Fn(&Bar) -> String) -> Markup {
    html! {
        table {
            caption.hidden { "Runs by the time at which they started" }
            thead { tr { th scope="col" { "From (UTC)" } th.number scope="col" { "Runs" }
                th scope="col" { "Status" } } }
            tbody {
                @for bar in bars.iter().filter(|bar| bar.runs() > 0) {
                    tr {
                        th scope="row" { a href=(link(bar)) { (short_time(bar.from)) } }
                        td.number { (format::count(bar.runs())) }
                        td { (by_status(&bar.by_status)) }
                    }
                }
            }
        }
    }
}

fn summary(bars: &[Bar], from: DateTime<Utc>, to: DateTime<Utc>) -> Markup {
    let mut sums = BTreeMap::new();
    for (status, runs) in bars.iter().flat_map(|bar| &bar.by_status) {
        *sums.entry(status.clone()).or_insert(0) += runs;
    }
    let runs: u64 = sums.values().sum();
    html! {
        strong { (format::counted(runs, "run")) }
        " started from " (short_time(from)) " to " (short_time(to)) " UTC"
        @if runs > 0 { ": " (by_status(&sums)) }
    }
}

fn by_status(numbers: &BTreeMap<String, u64>) -> Markup {
    html! {
        @for (place, (status, runs)) in numbers.iter().enumerate() {
            @if place > 0 { ", " }
            span.nowrap { (format::count(*runs)) " " (format::status(&status.as_str().into())) }
        }
    }
}

fn description(bar: &Bar) -> String {
    let statuses = bar.by_status.iter();
    let statuses: Vec<_> = statuses
        .map(|(status, runs)| format!("{} {}", format::count(*runs), format::line(status)))
        .collect();
    let times = format!("{} to {}", short_time(bar.from), short_time(bar.to));
    match statuses.is_empty() {
        true => format!("{times}: no runs"),
        false => format!("{times}: {}", statuses.join(", ")),
    }
}

fn short_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_many_bars() {
        let from: DateTime<Utc> = "2026-02-27T23:59:59Z".parse().unwrap();
        for minutes in [1, 59, 61, 1_440, 10_000, 50_000, 600_000, 9_000_000, 4_000_000_000] {
            let to = from + TimeDelta::minutes(minutes);
            let buckets = Buckets::every(width(to - from), &Utc, from, to).unwrap();
            let bars = buckets.starts().len();
            assert!(bars <= MAX_BARS as usize + 2, "{minutes} minutes: {bars} bars");
        }
    }

    #[test]
    fn a_bar_is_as_high_as_the_drawing_at_most() {
        let bar = |numbers: &[(&str, u64)]| Bar {
            from: DateTime::UNIX_EPOCH,
            to: DateTime::UNIX_EPOCH,
            by_status: numbers.iter().map(|(status, runs)| ((*status).into(), *runs)).collect(),
        };
        let all = bar(&[("error", 1), ("ok", 1_000_000), ("timeout", u64::MAX / 2)]);
        let drawing = stack(&all, 0, all.runs()).into_string();
        assert!(drawing.contains(r#"class="is-error" x="1" y="98" width="8" height="2""#));
        assert!(!drawing.contains("y=\"-"), "{drawing}");
        assert_eq!(stack(&bar(&[]), 0, 1).into_string(), "");
    }
}
