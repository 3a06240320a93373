use maud::{Markup, html};
use runtrail_audit::{CallStatistics, Durations, Percentiles, RunStatistics};

use super::Selection;
use super::figures::{Figures, GroupFigures, ModelFigures, Moment};
use crate::format;

/// More rows than this aren't shown.
const MAX_ROWS: usize = 100;

/// The most important numbers.
pub(super) fn totals(figures: &Figures) -> Markup {
    let total = &figures.total;
    let calls = figures.calls(|calls| calls.calls);
    let without_cost = figures.calls(|calls| calls.calls_without_cost);
    let micros = figures.calls(|calls| calls.cost_micros);
    let tokens = [
        figures.calls(|calls| calls.input_tokens),
        figures.calls(|calls| calls.output_tokens),
    ];
    html! {
        dl.totals {
            div { dt { "Runs" } dd { (format::count(total.runs)) } }
            div {
                dt { "Failed" }
                dd { (format::count(total.failed)) " " span.muted { (share(total)) } }
            }
            div { dt { "Median duration" } dd { (percentile(&total.runtime, |it| it.p50_micros)) } }
            div { dt { "p95 duration" } dd { (percentile(&total.runtime, |it| it.p95_micros)) } }
            div { dt { "Calls" } dd { (format::rough_count(calls)) } }
            div {
                dt { "Tokens in / out" }
                dd { (format::rough_count(tokens[0])) " / " (format::rough_count(tokens[1])) }
            }
            div {
                dt { "Reported cost" }
                dd {
                    (cost(micros, calls.saturating_sub(without_cost)))
                    @if without_cost > 0 && without_cost < calls {
                        " " span.muted { "without " (format::counted(without_cost, "call")) }
                    }
                }
            }
        }
    }
}

/// The numbers of the charts, the latest first.
pub(super) fn moments(selection: &Selection<'_>, moments: &[Moment]) -> Markup {
    let period = selection.period;
    let link = |moment: &Moment| {
        let from = moment.from.max(period.from);
        selection.list(&selection.filters.between(from, moment.to))
    };
    scrolled(
        "Numbers of the charts",
        html! {
            table {
                caption.hidden { "Numbers of the charts, the latest first, in UTC" }
                thead { tr { th scope="col" { "From" } (heads()) } }
                tbody {
                    @for moment in moments.iter().rev() {
                        tr {
                            th scope="row" { a href=(link(moment)) { (period.label(moment.from)) } }
                            (cells(&moment.runs, &moment.calls))
                        }
                    }
                }
            }
        },
    )
}

pub(super) fn groups(selection: &Selection<'_>, groups: &[GroupFigures]) -> Markup {
    let group = selection.group;
    let link = |name: &str| selection.list(&group.filters(selection.exact_filters(), name));
    scrolled(
        "Runs by group",
        html! {
            table {
                caption.hidden { "Runs by " (group.name()) ", the most frequent first" }
                thead { tr { th scope="col" { (capitalized(group.name())) } (heads()) } }
                tbody {
                    @for row in groups.iter().take(MAX_ROWS) {
                        tr data-row {
                            th scope="row" {
                                a href=(link(&row.name)) {
                                    @if row.name.is_empty() { "(none)" }
                                    @else { (format::name(&row.name)) }
                                }
                            }
                            (cells(&row.runs, &row.calls))
                        }
                    }
                }
            }
            (rest(groups.len()))
        },
    )
}

pub(super) fn models(models: &[ModelFigures]) -> Markup {
    let text = |text: &Option<String>| {
        html! {
            @match text {
                Some(text) => { (format::name(text)) }
                None => { "–" }
            }
        }
    };
    scrolled(
        "Calls by model",
        html! {
            table {
                caption.hidden { "Calls by model, the most frequent first" }
                thead {
                    tr {
                        th scope="col" { "Model" }
                        th scope="col" { "Provider" }
                        th.number scope="col" { "Calls" }
                        th.number scope="col" { "p50" }
                        th.number scope="col" { "p95" }
                        th.number scope="col" { "p99" }
                        th.number scope="col" { "Input" }
                        th.number scope="col" { "Cached" }
                        th.number scope="col" { "Output" }
                        th.number scope="col" { "Cost" }
                    }
                }
                tbody {
                    @for ModelFigures { provider, model, calls } in models.iter().take(MAX_ROWS) {
                        tr {
                            th scope="row" { (text(model)) }
                            td { (text(provider)) }
                            td.number { (format::count(calls.calls)) }
                            td.number { (percentile(&calls.duration, |it| it.p50_micros)) }
                            td.number { (percentile(&calls.duration, |it| it.p95_micros)) }
                            td.number { (percentile(&calls.duration, |it| it.p99_micros)) }
                            td.number { (format::rough_count(calls.input_tokens)) }
                            td.number { (format::rough_count(calls.cache_read_tokens)) }
                            td.number { (format::rough_count(calls.output_tokens)) }
                            td.number { (reported_cost(calls)) }
                        }
                    }
                }
            }
            (rest(models.len()))
        },
    )
}

fn heads() -> Markup {
    html! {
        th.number scope="col" { "Runs" }
        th.number scope="col" { "Failed" }
        th.number scope="col" { "p50" }
        th.number scope="col" { "p95" }
        th.number scope="col" { "p99" }
        th.number scope="col" { "Calls" }
        th.number scope="col" { "Input" }
        th.number scope="col" { "Output" }
        th.number scope="col" { "Cost" }
    }
}

fn cells(runs: &RunStatistics, calls: &CallStatistics) -> Markup {
    html! {
        td.number { (format::count(runs.runs)) }
        td.number {
            (format::count(runs.failed))
            @if runs.failed > 0 { " (" (share(runs)) ")" }
        }
        td.number { (percentile(&runs.runtime, |it| it.p50_micros)) }
        td.number { (percentile(&runs.runtime, |it| it.p95_micros)) }
        td.number { (percentile(&runs.runtime, |it| it.p99_micros)) }
        td.number { (format::count(calls.calls)) }
        td.number { (format::rough_count(calls.input_tokens)) }
        td.number { (format::rough_count(calls.output_tokens)) }
        td.number { (reported_cost(calls)) }
    }
}

/// Lets a table that is wider than the page be scrolled, also with keys.
fn scrolled(name: &str, table: Markup) -> Markup {
    html! { div.scrolled role="region" aria-label=(name) tabindex="0" { (table) } }
}

/// Says how many rows aren't shown.
fn rest(rows: usize) -> Markup {
    let rest = rows.saturating_sub(MAX_ROWS) as u64;
    html! { @if rest > 0 { p.muted { "and " (format::counted(rest, "more row")) } } }
}

/// Formats the share of failures among the runs that have finished.
fn share(runs: &RunStatistics) -> String {
    match runs.finished {
        0 => "–".to_owned(),
        finished => format!("{:.1}%", runs.failed as f64 * 100.0 / finished as f64),
    }
}

fn percentile(durations: &Durations, micros: fn(Percentiles) -> u64) -> String {
    let percentile = durations.percentiles.map(micros);
    percentile.map_or("–".to_owned(), |micros| {
        format::duration(micros as f64 / 1e6)
    })
}

fn reported_cost(calls: &CallStatistics) -> String {
    cost(
        calls.cost_micros,
        calls.calls.saturating_sub(calls.calls_without_cost),
    )
}

/// A cost that no call has reported isn't 0.
fn cost(micros: u64, reported: u64) -> String {
    match reported {
        0 => "–".to_owned(),
        _ => format::rough_dollars(micros),
    }
}

fn capitalized(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}
