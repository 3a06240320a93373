use maud::{Markup, html};

use super::figures::Moment;
use crate::format;
use crate::period::Period;

/// The width and the height of the drawing in its own units. It is stretched to the width of the
/// page, so everything that must not be stretched is outside of it.
const BAR: f64 = 10.0;
const HEIGHT: f64 = 100.0;

/// A number over time, as bars or lines on a common scale.
struct Chart {
    title: &'static str,
    /// What a screen reader says instead.
    summary: String,
    shape: Shape,
    /// Bars are stacked in this order, the first at the bottom.
    series: Vec<Series>,
    format: fn(f64) -> String,
}

#[derive(PartialEq)]
enum Shape {
    Bars,
    Lines,
}

struct Series {
    name: &'static str,
    class: &'static str,
    /// One for each bar; `None` where there is nothing to measure.
    values: Vec<Option<f64>>,
}

/// All charts of the page.
pub(super) fn all(period: &Period, moments: &[Moment]) -> Markup {
    let labels: Vec<String> = moments.iter().map(|it| period.label(it.from)).collect();
    let charts = [
        runs(period, moments),
        durations(moments),
        tokens(period, moments),
        cost(period, moments),
    ];
    html! { @for chart in charts.iter().flatten() { (chart.draw(&labels)) } }
}

fn series(
    name: &'static str,
    class: &'static str,
    moments: &[Moment],
    value: impl Fn(&Moment) -> Option<u64>,
) -> Series {
    let values = moments
        .iter()
        .map(|moment| value(moment).map(|value| value as f64));
    Series {
        name,
        class,
        values: values.collect(),
    }
}

fn runs(period: &Period, moments: &[Moment]) -> Option<Chart> {
    let series = vec![
        series("Failed", "error", moments, |it| Some(it.runs.failed)),
        series("Not failed", "ok", moments, |it| {
            Some(it.runs.finished.saturating_sub(it.runs.failed))
        }),
        series("Not finished", "running", moments, |it| {
            Some(it.runs.runs.saturating_sub(it.runs.finished))
        }),
    ];
    Some(Chart {
        title: "Runs",
        summary: summary(period, &series, rough_count),
        shape: Shape::Bars,
        series,
        format: rough_count,
    })
}

/// The durations of runs. There is no chart before a run has finished.
fn durations(moments: &[Moment]) -> Option<Chart> {
    let measured = |it: &Moment| it.runs.runtime.percentiles;
    if !moments.iter().any(|it| measured(it).is_some()) {
        return None;
    }
    let series = vec![
        series("p50", "first", moments, |it| Some(measured(it)?.p50_micros)),
        series("p95", "second", moments, |it| {
            Some(measured(it)?.p95_micros)
        }),
        series("p99", "third", moments, |it| Some(measured(it)?.p99_micros)),
    ];
    let longest = series
        .iter()
        .map(|series| format!("{} up to {}", series.name, duration(series.highest())));
    Some(Chart {
        title: "Duration of runs",
        summary: longest.collect::<Vec<_>>().join(", "),
        shape: Shape::Lines,
        series,
        format: duration,
    })
}

fn tokens(period: &Period, moments: &[Moment]) -> Option<Chart> {
    let series = vec![
        series("Input", "first", moments, |it| Some(it.calls.input_tokens)),
        series("Output", "second", moments, |it| {
            Some(it.calls.output_tokens)
        }),
    ];
    (total(&series) > 0.0).then(|| Chart {
        title: "Tokens of calls",
        summary: summary(period, &series, rough_count),
        shape: Shape::Bars,
        series,
        format: rough_count,
    })
}

fn cost(period: &Period, moments: &[Moment]) -> Option<Chart> {
    let series = vec![series("Cost", "first", moments, |it| {
        Some(it.calls.cost_micros)
    })];
    (total(&series) > 0.0).then(|| Chart {
        title: "Reported cost",
        summary: summary(period, &series, dollars),
        shape: Shape::Bars,
        series,
        format: dollars,
    })
}

fn rough_count(number: f64) -> String {
    format::rough_count(number as u64)
}

fn dollars(micros: f64) -> String {
    format::rough_dollars(micros as u64)
}

fn duration(micros: f64) -> String {
    format::duration(micros / 1e6)
}

fn total(series: &[Series]) -> f64 {
    series
        .iter()
        .flat_map(|series| &series.values)
        .flatten()
        .sum()
}

fn summary(period: &Period, series: &[Series], format: fn(f64) -> String) -> String {
    let sums = series.iter().map(|series| {
        let sum: f64 = series.values.iter().flatten().sum();
        format!("{} {}", series.name, format(sum))
    });
    let sums: Vec<_> = sums.collect();
    let highest = format(highest_sum(series));
    format!(
        "{}; at most {highest} per {}",
        sums.join(", "),
        period.width
    )
}

fn highest_sum(series: &[Series]) -> f64 {
    let bars = series.first().map_or(0, |series| series.values.len());
    let sum = |bar: usize| -> f64 {
        let values = series.iter().filter_map(|series| series.values[bar]);
        values.sum()
    };
    (0..bars).map(sum).fold(0.0, f64::max)
}

/// Returns the end of a scale from 0 on which a number has its place.
fn scale(highest: f64) -> f64 {
    const STEPS: [f64; 9] = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];

    if highest <= 0.0 {
        return 1.0;
    }
    let unit = 10_f64.powf(highest.log10().floor());
    let step = STEPS.into_iter().find(|step| step * unit >= highest);
    step.unwrap_or(10.0) * unit
}

impl Series {
    fn highest(&self) -> f64 {
        self.values.iter().flatten().copied().fold(0.0, f64::max)
    }
}

impl Chart {
    fn draw(&self, labels: &[String]) -> Markup {
        let highest = match self.shape {
            Shape::Bars => highest_sum(&self.series),
            Shape::Lines => self.series.iter().map(Series::highest).fold(0.0, f64::max),
        };
        let scale = scale(highest);
        let view = format!("0 0 {} {HEIGHT}", BAR * labels.len() as f64);
        html! {
            figure.chart {
                figcaption {
                    h2 { (self.title) }
                    @if self.series.len() > 1 {
                        ul.legend {
                            @for series in &self.series {
                                li { i class={ "swatch " (series.class) } {} (series.name) }
                            }
                        }
                    }
                }
                div.scale aria-hidden="true" {
                    span { ((self.format)(scale)) }
                    span { "0" }
                }
                svg viewBox=(view) preserveAspectRatio="none" role="img"
                    aria-label={ (self.title) ": " (self.summary) }
                {
                    @match self.shape {
                        Shape::Bars => { (self.bars(scale)) }
                        Shape::Lines => {
                            @for series in &self.series { (line(series, scale)) }
                        }
                    }
                    @for (bar, label) in labels.iter().enumerate() { (self.tip(bar, label)) }
                }
                div.times aria-hidden="true" {
                    span { (labels.first().map_or("", String::as_str)) }
                    @if labels.len() > 1 {
                        span { (labels.last().map_or("", String::as_str)) }
                    }
                }
            }
        }
    }

    fn bars(&self, scale: f64) -> Markup {
        let bars = self.series.first().map_or(0, |series| series.values.len());
        let mut tops = vec![HEIGHT; bars];
        let mut boxes = Vec::new();
        for series in &self.series {
            for (bar, (value, top)) in series.values.iter().zip(&mut tops).enumerate() {
                let Some(value) = value.filter(|value| *value > 0.0) else {
                    continue;
                };
                let height = value / scale * HEIGHT;
                *top -= height;
                boxes.push((series.class, bar as f64 * BAR + 1.0, *top, height));
            }
        }
        html! {
            @for (class, x, y, height) in boxes {
                rect class=(class) x=(x) y=(place(y)) width=(BAR - 2.0) height=(place(height)) {}
            }
        }
    }

    /// Shows the numbers of a bar to a mouse that is over it.
    fn tip(&self, bar: usize, label: &str) -> Markup {
        let values = self.series.iter().filter_map(|series| {
            let value = series.values[bar]?;
            Some(format!("\n{}: {}", series.name, (self.format)(value)))
        });
        html! {
            rect.tip x=(bar as f64 * BAR) y="0" width=(BAR) height=(HEIGHT) {
                title { (label) @for value in values { (value) } }
            }
        }
    }
}

/// Draws a line with a dot for each value. Where a value is missing, the line is interrupted.
fn line(series: &Series, scale: f64) -> Markup {
    let mut path = String::new();
    let mut dots = String::new();
    let mut command = 'M';
    for (bar, value) in series.values.iter().enumerate() {
        let Some(value) = value else {
            command = 'M';
            continue;
        };
        let x = (bar as f64 + 0.5) * BAR;
        let y = place(HEIGHT - value / scale * HEIGHT);
        path += &format!("{command}{x} {y}");
        dots += &format!("M{x} {y}h0");
        command = 'L';
    }
    html! {
        path class={ "line " (series.class) } d=(path) {}
        path class={ "dots " (series.class) } d=(dots) {}
    }
}

/// Rounds to a hundredth of a unit, which is less than a pixel.
fn place(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        for (highest, expected) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (7.0, 8.0),
            (12.0, 15.0),
            (100.0, 100.0),
            (101.0, 150.0),
            (999.0, 1_000.0),
        ] {
            assert_eq!(scale(highest), expected, "{highest}");
        }
    }

    #[test]
    fn lines_are_interrupted_where_nothing_was_measured() {
        let series = Series {
            name: "p50",
            class: "first",
            values: vec![Some(0.0), Some(5.0), None, Some(10.0)],
        };
        let drawn = line(&series, 10.0).into_string();
        assert!(drawn.contains("d=\"M5 100L15 50M35 0\""), "{drawn}");
    }
}
