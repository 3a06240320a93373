//! How many runs started when, by status.

use std::collections::BTreeMap;

use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use runtrail_audit::{Dimension, RunStatistics, StatisticsQuery, StatisticsRow};

use super::CHART;
use crate::error::Result;
use crate::filters::Filters;
use crate::format;
use crate::layout;
use crate::period::Period;
use crate::visitor::Visitor;

/// The period that is shown unless the filter has one.
const DEFAULT_SPAN: TimeDelta = TimeDelta::hours(24);

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
    let period = Period::of(filters, DEFAULT_SPAN, visitor.now)?;
    let filters = filters.between(period.from, period.to);
    let query = StatisticsQuery::of(visitor.restrict(filters.query()))
        .group_by([Dimension::Status])
        .buckets(period.buckets.clone());
    let rows = visitor.history().run_statistics(&query).await?;
    Ok(draw(&filters, &period, &bars(&period, &rows)))
}

/// The runs that started in a period.
struct Bar {
    /// The first and the last time.
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    by_status: BTreeMap<String, u64>,
}

impl Bar {
    fn runs(&self) -> u64 {
        self.by_status.values().sum()
    }
}

fn bars(period: &Period, rows: &[StatisticsRow<RunStatistics>]) -> Vec<Bar> {
    let bar = |(from, to): (DateTime<Utc>, DateTime<Utc>)| Bar {
        // The period may begin or end within a bar.
        from: from.max(period.from),
        to,
        by_status: BTreeMap::new(),
    };
    let mut bars: Vec<_> = period.bars().map(bar).collect();
    let starts = period.buckets.starts();
    for row in rows {
        let place = row
            .bucket
            .and_then(|start| starts.binary_search(&start).ok());
        let status = row.group.first().cloned().flatten().unwrap_or_default();
        if let Some(bar) = place.and_then(|place| bars.get_mut(place)) {
            bar.by_status.insert(status, row.values.runs);
        }
    }
    bars
}

fn draw(filters: &Filters, period: &Period, bars: &[Bar]) -> Markup {
    let highest = bars.iter().map(Bar::runs).max().unwrap_or_default().max(1);
    let view_box = format!("0 0 {} {HEIGHT}", bars.len() * BAR_WIDTH);
    let link = |bar: &Bar| filters.between(bar.from, bar.to).parameters().link("./");
    // A script adds the selected times.
    let timeless = filters.without_times().parameters().link("./");
    html! {
        figure.histogram data-link=(timeless) {
            figcaption { (summary(bars, period)) }
            svg viewBox=(view_box) preserveAspectRatio="none" aria-hidden="true" {
                @for (place, bar) in bars.iter().enumerate() {
                    @let x = place * BAR_WIDTH;
                    a href=(link(bar)) tabindex="-1" data-from=(format::machine_time(bar.from))
                        data-to=(format::machine_time(bar.to)) {
                        title { (description(bar)) }
                        rect.target x=(x) width=(BAR_WIDTH) height=(HEIGHT) {}
                        (stack(bar, x, highest))
                    }
                }
            }
            div.axis {
                span { (short_time(period.from)) }
                @if bars.iter().any(|bar| bar.runs() > 0) {
                    span { "at most " (format::counted(highest, "run")) " per " (period.width) }
                }
                span { (short_time(period.to)) }
            }
            details {
                summary { "As a table" }
                (table(bars, link))
            }
        }
    }
}

/// Draws the statuses of a bar on top of each other. None is so low that it can't be seen.
fn stack(bar: &Bar, x: usize, highest: u64) -> Markup {
    const LOWEST: u64 = 2;

    let mut top = HEIGHT;
    let parts = bar.by_status.iter().map(|(status, runs)| {
        let height = (u128::from(*runs) * u128::from(HEIGHT)).div_ceil(highest.into());
        // A share of the highest bar, so it fits.
        let height = (height as u64).max(LOWEST).min(top);
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

fn summary(bars: &[Bar], period: &Period) -> Markup {
    let mut sums = BTreeMap::new();
    for (status, runs) in bars.iter().flat_map(|bar| &bar.by_status) {
        *sums.entry(status.clone()).or_insert(0) += runs;
    }
    let runs: u64 = sums.values().sum();
    html! {
        strong { (format::counted(runs, "run")) }
        " started from " (short_time(period.from)) " to " (short_time(period.to)) " UTC"
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
    fn a_bar_is_as_high_as_the_drawing_at_most() {
        let bar = |numbers: &[(&str, u64)]| Bar {
            from: DateTime::UNIX_EPOCH,
            to: DateTime::UNIX_EPOCH,
            by_status: numbers
                .iter()
                .map(|(status, runs)| ((*status).into(), *runs))
                .collect(),
        };
        let all = bar(&[("error", 1), ("ok", 1_000_000), ("timeout", u64::MAX / 2)]);
        let drawing = stack(&all, 0, all.runs()).into_string();
        assert!(drawing.contains(r#"class="is-error" x="1" y="98" width="8" height="2""#));
        assert!(!drawing.contains("y=\"-"), "{drawing}");
        assert_eq!(stack(&bar(&[]), 0, 1).into_string(), "");
    }
}
