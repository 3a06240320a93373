//! Two runs side by side.

use std::collections::{BTreeMap, BTreeSet};

use axum::response::Response;
use futures_util::try_join;
use maud::{Markup, html};
use runtrail_audit::{ListOrder, ModelUsage, PageRequest, RunQuery, RunSummary, SkillRun};

use super::run::{inputs, output};
use crate::content::{Extent, text};
use crate::error::Result;
use crate::format;
use crate::layout::{self, Section};
use crate::url::{self, Parameters};
use crate::visitor::Visitor;

/// The parameters with the ids of the runs.
const LEFT: &str = "a";
const RIGHT: &str = "b";

/// Compares the runs `a` and `b`. Without `a`, it compares `b` with the previous run of its skill.
pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let id = |name| visitor.parameters.first(name).map(str::trim);
    let right = match id(RIGHT) {
        Some(id) => Some(visitor.find_run(id).await?),
        None => None,
    };
    let left = match (id(LEFT), &right) {
        (Some(id), _) => Some(visitor.find_run(id).await?),
        (None, Some(right)) => previous(&visitor, right).await?,
        (None, None) => None,
    };
    let comparison = match (&left, &right) {
        (Some(left), Some(right)) => compare(&visitor, [left, right]).await?,
        (None, Some(_)) => html! { p.empty { "This is the first run of its skill." } },
        _ => html! {},
    };
    let body = html! {
        div.heading { h1 { "Compare runs" } }
        (form(left.as_ref(), right.as_ref()))
        (comparison)
    };
    Ok(layout::page(
        &visitor.root,
        "Compare runs",
        Section::Runs,
        body,
    ))
}

/// Returns a link to the comparison of a run with the previous one of its skill.
pub(crate) fn link(root: &str, run_id: &str) -> String {
    let parameters = Parameters::new().with(RIGHT, run_id);
    parameters.link(&format!("{root}compare"))
}

async fn previous(visitor: &Visitor, run: &SkillRun) -> Result<Option<SkillRun>> {
    let of_skill = RunQuery::new()
        .skills([&run.skill_id])
        .started(..=run.started_at);
    let history = visitor.history();
    let newest = history
        .page_run_summaries(
            &visitor.restrict(of_skill),
            ListOrder::NewestFirst,
            // One of them is the run itself.
            &PageRequest::first(2),
        )
        .await?;
    match newest.items.iter().find(|other| other.id != run.id) {
        Some(other) => Ok(Some(visitor.find_run(&other.id).await?)),
        None => Ok(None),
    }
}

fn form(left: Option<&SkillRun>, right: Option<&SkillRun>) -> Markup {
    let input = |name, label, run: Option<&SkillRun>| {
        let id = run.map_or("", |run| run.id.as_str());
        html! {
            label {
                (label)
                input name=(name) value=(id) autocomplete="off" spellcheck="false";
            }
        }
    };
    html! {
        form.filters method="get" action="compare" role="search" aria-label="Choose two runs" {
            div.fields {
                (input(LEFT, "Id of a run", left))
                (input(RIGHT, "Id of another run", right))
            }
            div.actions { button.primary { "Compare" } }
        }
    }
}

async fn compare(visitor: &Visitor, [left, right]: [&SkillRun; 2]) -> Result<Markup> {
    let (left_steps, right_steps) = try_join!(steps(visitor, left), steps(visitor, right))?;
    let runs = [left, right];
    Ok(html! {
        (facts(visitor, runs))
        (steps_table(&left_steps, &right_steps))
        @if visitor.shows_texts() { (texts(visitor, runs)) }
    })
}

fn facts(visitor: &Visitor, runs: [&SkillRun; 2]) -> Markup {
    let row = |name: &str, values: [Markup; 2]| {
        let is_different = values[0].0 != values[1].0;
        html! {
            tr.differs[is_different] {
                th scope="row" { (name) }
                @for value in values { td { (value) } }
            }
        }
    };
    let of = |value: &dyn Fn(&SkillRun) -> Markup| runs.map(value);
    let number = |value: u64| html! { (format::count(value)) };
    let labels = |run: &SkillRun| {
        html! {
            @for (place, (key, value)) in run.labels.iter().enumerate() {
                @if place > 0 { ", " }
                (format::name(&format!("{key}={value}")))
            }
        }
    };
    html! {
        table.comparison {
            caption.hidden { "Outcome" }
            (columns())
            thead {
                tr {
                    td {}
                    @for run in runs {
                        th scope="col" {
                            a href={ (visitor.root) "runs/" (url::segment(&run.id)) } {
                                span.id { (format::name(&run.id)) }
                            }
                        }
                    }
                }
            }
            tbody {
                (row("Status", of(&|run| format::status(&run.status))))
                (row("Skill", of(&|run| format::name(&run.skill_id))))
                (row("Caller", of(&|run| format::name(&run.caller_id))))
                (row("Channel", of(&|run| format::name(&run.channel_id))))
                (row("Labels", of(&labels)))
                (row("Started", of(&|run| format::time(run.started_at, visitor.now))))
                (row("Duration", of(&|run| {
                    let duration = format::run_duration(&RunSummary::from(run), visitor.now);
                    html! { (duration) }
                })))
                (row("Input tokens", of(&|run| number(run.total_input_tokens))))
                (row("Output tokens", of(&|run| number(run.total_output_tokens))))
                (row("Thinking tokens", of(&|run| number(run.total_thinking_tokens))))
                (row("Tool calls", of(&|run| number(run.tool_calls))))
            }
        }
    }
}

/// Gives the columns of both tables the same widths.
fn columns() -> Markup {
    html! { colgroup { col.names; col; col; } }
}

/// How often a run did what.
type Steps = BTreeMap<String, u64>;

/// Counts the calls of each model, and the runs of each skill that a run has started.
async fn steps(visitor: &Visitor, run: &SkillRun) -> Result<Steps> {
    let history = visitor.history();
    let ids = [run.id.clone()];
    let (usage, mut children) =
        try_join!(history.usage_by_model(&ids), history.list_children(&run.id))?;
    let mut steps = Steps::new();
    for ModelUsage { model, calls, .. } in usage {
        let model = model.as_deref().unwrap_or("a model");
        *steps.entry(format!("Call of {model}")).or_default() += calls;
    }
    visitor.retain_visible(&mut children).await?;
    for child in children {
        *steps
            .entry(format!("Run of {}", child.skill_id))
            .or_default() += 1;
    }
    Ok(steps)
}

fn steps_table(left: &Steps, right: &Steps) -> Markup {
    let names: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let number = |steps: &Steps, name: &String| steps.get(name).copied().unwrap_or_default();
    html! {
        @if !names.is_empty() {
            h2 { "Steps" }
            table.comparison {
                caption.hidden { "Model calls and runs that were started" }
                (columns())
                tbody {
                    @for name in names {
                        @let numbers = [number(left, name), number(right, name)];
                        tr.differs[numbers[0] != numbers[1]] {
                            th scope="row" { (format::name(name)) }
                            @for number in numbers { td { (format::count(number)) } }
                        }
                    }
                }
            }
        }
    }
}

fn texts(visitor: &Visitor, runs: [&SkillRun; 2]) -> Markup {
    let section = |title: &str, show: &dyn Fn(&SkillRun, Extent<'_>) -> Markup| {
        let shown = runs.map(|run| {
            let whole = format!("{}runs/{}?whole=yes", visitor.root, url::segment(&run.id));
            show(run, Extent::Cut { whole: &whole })
        });
        html! {
            @if shown.iter().any(|it| !it.0.is_empty()) {
                h2 { (title) }
                div.pair { @for one in shown { div { (one) } } }
            }
        }
    };
    let unless_empty = |is_empty, shown: Markup| {
        if is_empty {
            html! {}
        } else {
            shown
        }
    };
    html! {
        (section("Error", &|run, extent| {
            unless_empty(run.error.is_empty(), text(&run.error, extent))
        }))
        (section("Inputs", &|run, extent| {
            unless_empty(run.inputs.is_empty(), inputs(run, extent))
        }))
        (section("Output", &|run, extent| {
            unless_empty(run.output.is_empty(), output(&run.output, extent))
        }))
    }
}
