use serde_json::{Map, Value};

use crate::convention::Meaning;
use crate::conventions;
use crate::failure;
use crate::identifier::identifier;
use crate::policy::Policy;
use crate::reading::Reading;
use crate::record::{Record, Role};
use crate::span::Span;
use crate::vocabulary::Vocabulary;

/// Returns what a span means for a history.
///
/// ```
/// use std::time::Duration;
///
/// use chrono::DateTime;
/// use runtrail_telemetry::{Policy, Role, Span, SpanStatus, read_span};
/// use serde_json::json;
///
/// let span = Span {
///     trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
///     span_id: "b7ad6b7169203331".to_owned(),
///     parent_id: Some("00f067aa0ba902b7".to_owned()),
///     name: "chat gpt-5".to_owned(),
///     is_server: false,
///     started_at: DateTime::UNIX_EPOCH,
///     duration: Duration::from_secs(2),
///     attributes: json!({
///         "gen_ai.operation.name": "chat",
///         "gen_ai.request.model": "gpt-5",
///         "gen_ai.usage.input_tokens": 120,
///     })
///     .as_object()
///     .cloned()
///     .unwrap_or_default(),
///     events: Vec::new(),
///     status: SpanStatus::Unset,
///     source: Default::default(),
/// };
/// let record = read_span(span, &Policy::new());
/// assert_eq!(record.role, Role::ModelCall);
/// assert_eq!(record.usage.and_then(|usage| usage.input_tokens), Some(120));
/// ```
pub fn read_span(span: Span, policy: &Policy) -> Record {
    let conventions = conventions::of(&span.name, &span.source, &span.attributes);
    let vocabulary = Vocabulary(&conventions);
    let is_root = span.parent_id.is_none();
    let mut attributes = span.attributes;
    vocabulary.complete(&mut attributes, &span.events);
    let meaning = vocabulary.meaning(&span.name, &attributes);
    let is_agentic = meaning.is_some() || vocabulary.is_agentic(&attributes);
    let role = role(meaning, span.is_server, is_root);
    let error = failure::of_span(vocabulary, &attributes, &span.events, &span.status);
    let error = error.map(|error| policy.text(error));
    if !policy.has_content() {
        attributes.retain(|name, _| !vocabulary.is_content(name));
    }
    let mut reading = Reading {
        vocabulary,
        attributes,
        events: &span.events,
        policy,
    };

    let is_tool = matches!(meaning, Some(Meaning::ToolCall | Meaning::RemoteToolCall));
    let name = match is_tool {
        true => reading
            .text(|names| names.tool_name)
            .or_else(|| vocabulary.suffix(&span.name)),
        false => reading.text(|names| names.agent_name).or_else(|| {
            let mut skills = vocabulary.conventions().map(|names| names.skill);
            skills.find(|skill| !skill.is_empty())
        }),
    };
    let names = [name, Some(&span.name), Some("span")];
    let name = names.into_iter().flatten().find(|name| !name.is_empty());
    let name = name.unwrap_or_default().to_owned();
    let mut run = reading.run(&name, &span.source);
    run.error = error.clone();

    let mut usage = None;
    let error = error.as_deref();
    let event = match role {
        Role::Run => {
            usage = reading.take_usage();
            run.inputs = match is_tool {
                true => reading.arguments(),
                false => reading.take_inputs(),
            };
            run.output = reading.take_output_text();
            None
        }
        Role::ModelCall => {
            usage = reading.take_usage();
            Some(reading.model_call(error))
        }
        Role::ToolCall => {
            run.inputs = reading.arguments();
            Some(reading.tool_call(&name, error))
        }
        Role::Span | Role::Log => {
            // A root may become a run.
            if is_root {
                let mut root = Reading {
                    attributes: reading.attributes.clone(),
                    ..reading
                };
                run.inputs = root.take_inputs();
                run.output = root.take_output_text();
            }
            let payload = [("name".to_owned(), Value::from(reading.name(&span.name)))];
            Some(reading.other("span", Map::from_iter(payload), error))
        }
    };
    Record {
        group: identifier(&span.trace_id),
        id: span.span_id,
        parent_id: span.parent_id,
        role,
        is_agentic,
        at: span.started_at,
        duration: Some(span.duration),
        run,
        event,
        usage,
    }
}

fn role(meaning: Option<Meaning>, is_server: bool, is_root: bool) -> Role {
    match meaning {
        Some(Meaning::Run) => Role::Run,
        Some(Meaning::ModelCall) => Role::ModelCall,
        Some(Meaning::ToolCall) => Role::ToolCall,
        Some(Meaning::RemoteToolCall) if !is_server => Role::ToolCall,
        // The client's call is in the same trace unless this is the root.
        Some(Meaning::RemoteToolCall | Meaning::Chain) if is_root => Role::Run,
        Some(Meaning::RemoteToolCall | Meaning::Chain | Meaning::Step) | None => Role::Span,
    }
}
