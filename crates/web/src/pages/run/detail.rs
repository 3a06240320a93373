//! One event, with all that is stored of it.

use axum::response::Response;
use maud::{Markup, html};
use runtrail_audit::{SkillRun, SkillRunLog, Usage};
use serde_json::{Map, Value};

use super::event_row::{EventRow, tokens};
use super::events::{find_event, sequence};
use super::links::Links;
use super::waterfall::skill;
use crate::content::{Extent, json, messages, render_messages, text};
use crate::error::{Failure, Result};
use crate::format;
use crate::layout::{self, Section};
use crate::url::Parameters;
use crate::visitor::Visitor;

/// The parameter with which nothing is cut.
pub(super) const WHOLE: &str = "whole";

/// Shows one event on its own page.
pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let run = visitor.run().await?;
    let sequence = sequence(visitor.path("sequence"))?;
    let Some(event) = find_event(&visitor, &run.id, sequence).await? else {
        return Err(Failure::not_found(format!(
            "The run has no event {sequence} that can be read."
        )));
    };
    let links = Links::new(&visitor.root, &run.id);
    let title = format!("Event {sequence}");
    let body = html! {
        (crumbs(&visitor.root, &run, &links))
        h1 { (title) }
        (article(&visitor, event, &links))
    };
    Ok(layout::page(&visitor.root, &title, Section::Runs, body))
}

fn crumbs(root: &str, run: &SkillRun, links: &Links) -> Markup {
    html! {
        nav.crumbs aria-label="Breadcrumbs" {
            a href=(root) { "Runs" }
            " › "
            a href=(links.run()) { (skill(&run.skill_id)) }
        }
    }
}

/// Renders an event. The page of the run shows the same article in place.
fn article(visitor: &Visitor, event: SkillRunLog, links: &Links) -> Markup {
    let parameters = Parameters::new().with(WHOLE, "yes");
    let whole = parameters.link(&links.event(event.sequence));
    let extent = match visitor.parameters.first(WHOLE) {
        Some(_) => Extent::Whole,
        None => Extent::Cut { whole: &whole },
    };
    let contents = match visitor.shows_texts() {
        true => contents(&event, extent),
        false => html! { p.note { "You have no access to the contents of events." } },
    };
    let row = EventRow::of(visitor, event);
    let event = &row.event;
    html! {
        article.event {
            dl.facts {
                div { dt { "Type" } dd { (format::name(&event.event_type)) } }
                div { dt { "Time" } dd { (format::full_time(row.end())) } }
                @if let Some(duration) = row.duration() {
                    div { dt { "Duration" } dd { (duration) } }
                }
                @if let Some(usage) = &event.usage { (usage_facts(usage)) }
                div {
                    dt { "Event" }
                    dd {
                        a href=(links.event(event.sequence)) { (event.sequence) }
                        " · "
                        a href=(links.events_from(event.sequence)) { "in the list" }
                    }
                }
            }
            (contents)
        }
    }
}

fn usage_facts(usage: &Usage) -> Markup {
    let part = |tokens: Option<u64>, name: &str| {
        let tokens = tokens.filter(|tokens| *tokens > 0)?;
        Some(format!("{} {name}", format::count(tokens)))
    };
    let parts = [
        part(usage.cache_read_tokens, "read from a cache"),
        part(usage.cache_write_tokens, "written to a cache"),
        part(usage.thinking_tokens, "thinking"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let (input, output) = (usage.input_tokens, usage.output_tokens);
    html! {
        @if let Some(model) = &usage.model {
            div {
                dt { "Model" }
                dd {
                    (format::name(model))
                    @if let Some(provider) = &usage.provider {
                        span.muted { " (" (format::name(provider)) ")" }
                    }
                }
            }
        }
        @if input.is_some() || output.is_some() {
            div {
                dt { "Tokens" }
                dd {
                    (tokens(input.unwrap_or_default(), output.unwrap_or_default()))
                    @if !parts.is_empty() { span.muted { " (" (parts.join(", ")) ")" } }
                }
            }
        }
        @if let Some(cost) = usage.cost_micros {
            div { dt { "Reported cost" } dd { (format::dollars(cost)) } }
        }
    }
}

/// Renders a payload: the parts that are known for its type, and then the rest.
fn contents(event: &SkillRunLog, extent: Extent<'_>) -> Markup {
    let Value::Object(members) = &event.payload else {
        return json(&event.payload, extent);
    };
    let mut rest = members.clone();
    let mut take = |name: &str| rest.remove(name).filter(|value| !value.is_null());
    let error = take("error");
    let known = match event.event_type.as_str() {
        "model_call" => model_call(&mut take, extent),
        "tool_call" => tool_call(&mut take, extent),
        _ => match members.get("text") {
            Some(Value::String(printed)) => {
                take("text");
                text(printed, extent)
            }
            _ => html! {},
        },
    };
    html! {
        @if let Some(error) = error {
            section.error { h3 { "Error" } (json(&error, extent)) }
        }
        (known)
        (others(rest, extent))
    }
}

fn model_call(take: &mut impl FnMut(&str) -> Option<Value>, extent: Extent<'_>) -> Markup {
    let system = take("system");
    let earlier = take("earlier_messages").and_then(|number| number.as_u64());
    let omitted = take("omitted_messages").and_then(|number| number.as_u64());
    let asked = take("messages");
    let output = take("output");
    html! {
        @if let Some(system) = system {
            details.system {
                summary { "System prompt" }
                (conversation(&system, "system", extent))
            }
        }
        @if let Some(number) = earlier {
            p.muted {
                (format::counted(number, "earlier message")) " of the conversation: see the calls \
                 before."
            }
        }
        @if let Some(number) = omitted {
            p.muted { (format::counted(number, "message")) " left out for their size." }
        }
        @if let Some(asked) = asked { (conversation(&asked, "user", extent)) }
        @if let Some(output) = output {
            h3 { "Answer" }
            (conversation(&output, "assistant", extent))
        }
    }
}

fn tool_call(take: &mut impl FnMut(&str) -> Option<Value>, extent: Extent<'_>) -> Markup {
    let tool = take("tool");
    let arguments = take("arguments");
    let result = take("result");
    html! {
        @if let Some(tool) = tool { p { "Tool " code { (format::line(&plain(&tool))) } } }
        @if let Some(arguments) = arguments { h3 { "Arguments" } (json(&arguments, extent)) }
        @if let Some(result) = result { h3 { "Result" } (json(&result, extent)) }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Renders messages, or the value as it is if it has none.
pub(super) fn conversation(value: &Value, role: &str, extent: Extent<'_>) -> Markup {
    match messages(value, role) {
        Some(messages) => render_messages(&messages, extent),
        None => json(value, extent),
    }
}

fn others(rest: Map<String, Value>, extent: Extent<'_>) -> Markup {
    html! { @if !rest.is_empty() { (json(&Value::Object(rest), extent)) } }
}
