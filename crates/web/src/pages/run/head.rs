//! What is known of a run as a whole.

use maud::{Markup, html};
use runtrail_audit::{ModelUsage, RunSummary, SkillRun};
use serde_json::Value;

use super::detail::conversation;
use super::links::{Links, ROOT, filtered};
use super::waterfall::skill;
use crate::content::{Extent, formatted, json, text};
use crate::filters;
use crate::format;
use crate::pages::compare;
use crate::visitor::Visitor;

/// A larger output isn't parsed as JSON.
const MAX_JSON_BYTES: usize = 256 << 10;

pub(super) fn head(visitor: &Visitor, run: &SkillRun) -> Markup {
    let summary = RunSummary::from(run);
    html! {
        nav.crumbs aria-label="Breadcrumbs" {
            a href=(ROOT) { "Runs" }
            @if let Some(parent) = &run.parent_run_id {
                " › "
                a href=(Links::new(ROOT, parent).run()) {
                    "Parent " span.id { (format::name(parent)) }
                }
            }
        }
        header.run-head {
            h1 { (skill(&run.skill_id)) }
            (format::status(&run.status))
            a href=(compare::link(ROOT, &run.id)) { "Compare with the previous run" }
        }
        dl.facts {
            div { dt { "Id" } dd { code.copy data-copy=(run.id) { (format::line(&run.id)) } } }
            @if !run.caller_id.is_empty() {
                div {
                    dt { "Caller" }
                    dd { (filtered(ROOT, filters::CALLER, &run.caller_id, &run.caller_id)) }
                }
            }
            @if !run.channel_id.is_empty() {
                div {
                    dt { "Channel" }
                    dd { (filtered(ROOT, filters::CHANNEL, &run.channel_id, &run.channel_id)) }
                }
            }
            div {
                dt { "Started" }
                dd {
                    (format::full_time(run.started_at)) " "
                    span.muted { (format::time(run.started_at, visitor.now)) }
                }
            }
            div { dt { "Duration" } dd { (format::run_duration(&summary, visitor.now)) } }
            @if summary.total_tokens() > 0 {
                div {
                    dt { "Tokens" }
                    dd {
                        (format::count(run.total_input_tokens)) " in, "
                        (format::count(run.total_output_tokens)) " out"
                        @if run.total_thinking_tokens > 0 {
                            ", " (format::count(run.total_thinking_tokens)) " thinking"
                        }
                    }
                }
            }
            @if run.tool_calls > 0 {
                div { dt { "Tool calls" } dd { (format::count(run.tool_calls)) } }
            }
            @if !run.labels.is_empty() {
                div {
                    dt { "Labels" }
                    dd.labels {
                        @for (key, value) in &run.labels {
                            (label(key, value)) " "
                        }
                    }
                }
            }
        }
    }
}

fn label(key: &str, value: &str) -> Markup {
    let condition = format!("{key}={value}");
    html! { span.label { (filtered(ROOT, filters::LABEL, &condition, &condition)) } }
}

/// Renders what the models of a run, and of the runs below it, have used.
pub(super) fn usage(run: &SkillRun, runs: usize, usage: &[ModelUsage]) -> Markup {
    let of_run: Vec<_> = usage
        .iter()
        .filter(|usage| usage.run_id == run.id)
        .collect();
    let of_run = by_model(&of_run);
    let of_tree = by_model(&usage.iter().collect::<Vec<_>>());
    html! {
        @if !of_run.is_empty() { (usage_table("Usage by model", &of_run)) }
        @if runs > 1 && of_tree != of_run {
            (usage_table("Usage by model, with the runs below", &of_tree))
        }
    }
}

/// Adds up what several runs used of the same model.
fn by_model(usage: &[&ModelUsage]) -> Vec<ModelUsage> {
    let mut sums: Vec<ModelUsage> = Vec::new();
    for one in usage {
        let same =
            |sum: &&mut ModelUsage| (&sum.provider, &sum.model) == (&one.provider, &one.model);
        match sums.iter_mut().find(same) {
            Some(sum) => add(sum, one),
            None => {
                let mut first = (*one).clone();
                first.run_id = String::new();
                sums.push(first);
            }
        }
    }
    sums.sort_by(|left, right| {
        let key = |it: &ModelUsage| (it.provider.clone(), it.model.clone());
        key(left).cmp(&key(right))
    });
    sums
}

fn add(sum: &mut ModelUsage, one: &ModelUsage) {
    for (sum, one) in [
        (&mut sum.calls, one.calls),
        (&mut sum.input_tokens, one.input_tokens),
        (&mut sum.cache_read_tokens, one.cache_read_tokens),
        (&mut sum.cache_write_tokens, one.cache_write_tokens),
        (&mut sum.output_tokens, one.output_tokens),
        (&mut sum.thinking_tokens, one.thinking_tokens),
        (&mut sum.cost_micros, one.cost_micros),
        (&mut sum.calls_without_cost, one.calls_without_cost),
    ] {
        *sum = sum.saturating_add(one);
    }
}

fn usage_table(caption: &str, usage: &[ModelUsage]) -> Markup {
    html! {
        table.usage {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { "Model" }
                    th.number scope="col" { "Calls" }
                    th.number scope="col" { "Input" }
                    th.number.wide scope="col" { "From a cache" }
                    th.number scope="col" { "Output" }
                    th.number.wide scope="col" { "Thinking" }
                    th.number scope="col" { "Reported cost" }
                }
            }
            tbody {
                @for model in usage {
                    tr {
                        th scope="row" {
                            @match &model.model {
                                Some(name) => (format::name(name)),
                                None => span.muted { "no model" },
                            }
                            @if let Some(provider) = &model.provider {
                                span.muted { " (" (format::name(provider)) ")" }
                            }
                        }
                        td.number { (format::count(model.calls)) }
                        td.number { (format::count(model.input_tokens)) }
                        td.number.wide { (format::count(model.cache_read_tokens)) }
                        td.number { (format::count(model.output_tokens)) }
                        td.number.wide { (format::count(model.thinking_tokens)) }
                        td.number { (cost(model)) }
                    }
                }
            }
        }
    }
}

/// Shows a reported cost. What isn't reported isn't 0.
fn cost(model: &ModelUsage) -> Markup {
    html! {
        @if model.calls_without_cost >= model.calls {
            span.muted { "not reported" }
        } @else {
            (format::dollars(model.cost_micros))
            @if model.calls_without_cost > 0 {
                span.muted {
                    " and " (format::counted(model.calls_without_cost, "call")) " without"
                }
            }
        }
    }
}

/// Renders the error first, then the inputs and the output.
pub(super) fn texts(visitor: &Visitor, run: &SkillRun, extent: Extent<'_>) -> Markup {
    if !visitor.shows_texts() {
        return html! { p.note { "You have no access to the inputs and outputs of runs." } };
    }
    html! {
        @if !run.error.is_empty() {
            section.error aria-labelledby="error" {
                h2 #error { "Error" }
                (text(&run.error, extent))
            }
        }
        @if !run.inputs.is_empty() {
            section aria-labelledby="inputs" {
                h2 #inputs { "Inputs" }
                (inputs(run, extent))
            }
        }
        @if !run.output.is_empty() {
            section aria-labelledby="output" {
                h2 #output { "Output" }
                (output(&run.output, extent))
            }
        }
    }
}

pub(in crate::pages) fn inputs(run: &SkillRun, extent: Extent<'_>) -> Markup {
    let mut rest = run.inputs.clone();
    // As the receiver of telemetry stores them.
    let messages = rest.remove("messages");
    let prompt = rest.remove("prompt");
    html! {
        @if let Some(prompt) = prompt { (conversation(&prompt, "", extent)) }
        @if let Some(messages) = messages { (conversation(&messages, "", extent)) }
        @if !rest.is_empty() { (json(&Value::Object(rest), extent)) }
    }
}

pub(in crate::pages) fn output(output: &str, extent: Extent<'_>) -> Markup {
    let is_json = output.starts_with(['{', '[']) && output.len() <= MAX_JSON_BYTES;
    let parsed = is_json.then(|| serde_json::from_str::<Value>(output).ok());
    match parsed.flatten() {
        Some(value) => json(&value, extent),
        None => formatted(output, extent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_added_up_by_model() {
        let usage = |run: &str, model: &str, input| {
            let mut usage = ModelUsage::default();
            usage.run_id = run.to_owned();
            usage.model = Some(model.to_owned());
            (usage.calls, usage.input_tokens) = (1, input);
            usage
        };
        let all = [
            usage("a", "small", 1),
            usage("b", "large", 2),
            usage("c", "small", u64::MAX),
        ];
        let sums = by_model(&all.iter().collect::<Vec<_>>());
        let numbers = sums
            .iter()
            .map(|sum| (sum.model.as_deref(), sum.calls, sum.input_tokens));
        let expected = [(Some("large"), 1, 2), (Some("small"), 2, u64::MAX)];
        assert_eq!(numbers.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_cost_that_is_not_reported_is_not_zero() {
        let mut usage = ModelUsage::default();
        (usage.calls, usage.calls_without_cost) = (2, 2);
        assert!(cost(&usage).into_string().contains("not reported"));
        (usage.calls_without_cost, usage.cost_micros) = (1, 12_300);
        let shown = cost(&usage).into_string();
        assert!(shown.starts_with("$0.0123"), "{shown}");
        assert!(shown.contains("1 call without"), "{shown}");
    }
}
